//! One pass from the tar of a layer to squashfs.
