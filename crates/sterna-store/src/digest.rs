//! SHA-256 of files, with a look at the size first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Progress, StoreError};

const BUFFER: usize = 1 << 20;

/// SHA-256 of a whole file as lower-case hex, reporting bytes as it reads.
pub(crate) fn sha256_file(path: &Path, progress: &mut dyn Progress) -> Result<String, StoreError> {
    let read = StoreError::io("read", path);
    let mut hash = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let total = file.metadata()?.len();
        let mut buffer = vec![0; BUFFER];
        let (mut hasher, mut done) = (Sha256::new(), 0);
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(&buffer[..n]);
            done += n as u64;
            progress.bytes(done, Some(total));
        }
    };
    hash().map_err(read)
}

/// Lower-case hex of some bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True for 64 lower-case hex digits, the form in which checksums are written everywhere here.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_a_known_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path, &mut ()).unwrap(), expected);
        assert!(is_sha256(expected) && !is_sha256(&expected.to_uppercase()) && !is_sha256("abc"));
    }
}
