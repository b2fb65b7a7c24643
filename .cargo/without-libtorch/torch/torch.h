// Found only where libtorch's own header is not: its folder stands before this one in the search path.
#error "libtorch is missing or incomplete: run `cargo xtask libtorch`"
