//! The judge: how far a model is from the text, and from another model.
