//! What a server has used, from the kernel's account of its process.

mod cpu_time;
mod memory;
mod switches;

pub use cpu_time::{CpuAccount, CpuTime};
pub use memory::Memory;
pub use switches::Switches;
