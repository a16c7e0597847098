//! What the listeners do beyond serving: paths, adoption, options, datagrams of every size.

mod support;

#[path = "listeners/adoption.rs"]
mod adoption;
#[path = "listeners/datagrams.rs"]
mod datagrams;
#[path = "listeners/inet_options.rs"]
mod inet_options;
#[path = "listeners/unix_paths.rs"]
mod unix_paths;
