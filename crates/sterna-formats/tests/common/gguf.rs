//! Writes small GGUF files, right or wrong.

/// Ids of value types.
pub const U32: u32 = 4;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;

/// A GGUF file in the making. Counts and offsets come out right unless they are set.
pub struct Builder {
    pub magic: [u8; 4],
    pub version: u32,
    pub n_entries: Option<u64>,
    pub n_tensors: Option<u64>,
    entries: Vec<Vec<u8>>,
    table: Vec<Vec<u8>>,
    pub alignment: usize,
    data: Vec<u8>,
}

impl Builder {
    pub fn new() -> Builder {
        Builder {
            magic: *b"GGUF",
            version: 3,
            n_entries: None,
            n_tensors: None,
            entries: Vec::new(),
            table: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// An entry whose value is any bytes.
    pub fn entry(mut self, key: &str, ty: u32, value: &[u8]) -> Builder {
        self.entries.push([&string(key.as_bytes()), &ty.to_le_bytes()[..], value].concat());
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Builder {
        self.entry(key, U32, &value.to_le_bytes())
    }

    pub fn string(self, key: &str, value: &str) -> Builder {
        self.entry(key, STRING, &string(value.as_bytes()))
    }

    pub fn strings(self, key: &str, values: &[&str]) -> Builder {
        let elements: Vec<u8> = values.iter().flat_map(|value| string(value.as_bytes())).collect();
        self.entry(key, ARRAY, &array(STRING, values.len() as u64, &elements))
    }

    /// A tensor with its data; `dims` innermost first, as in the file.
    pub fn tensor(mut self, name: &str, dims: &[u64], ty: u32, data: &[u8]) -> Builder {
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        self.table_entry(name, dims, ty, offset)
    }

    /// A table entry without data.
    pub fn table_entry(mut self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Builder {
        let mut entry = string(name.as_bytes());
        entry.extend((dims.len() as u32).to_le_bytes());
        entry.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        entry.extend(ty.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.table.push(entry);
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.n_tensors.unwrap_or(self.table.len() as u64).to_le_bytes());
        bytes.extend(self.n_entries.unwrap_or(self.entries.len() as u64).to_le_bytes());
        bytes.extend(self.entries.concat());
        bytes.extend(self.table.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A string as the file holds it.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// An array value as the file holds it.
pub fn array(element: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}
