//! The digest of an output: tensors and table rows, whatever container holds them.
