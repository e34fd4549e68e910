//! Images of `squall::squashfs` as others see them: the kernel that mounts them, and `unsquashfs`
//! of squashfs-tools.
//!
//! The tests with the kernel need root, `mount` and loop devices. Every mount happens in a process
//! with a mount namespace of its own and ends with it, and with the mount its loop device.

mod images;
mod kernel;
mod layers;
mod model;
mod random_trees;
mod surroundings;
mod unsquashfs;
