//! What this process has open, how much memory it has, and what its threads do.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

/// The number that the system gives a socket; no other has it while that one is open.
pub fn socket_number(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).expect("the socket is open").st_ino
}

/// Whether some descriptor of this process is that socket.
pub fn is_open(number: u64) -> bool {
    let name = format!("socket:[{number}]");
    let descriptors = fs::read_dir("/proc/self/fd").expect("Linux shows the descriptors");
    // One that closes meanwhile is another's.
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == name.as_str()))
}

/// Descriptors of this process: only of use in one that runs a single test.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux shows the descriptors").count()
}

/// Threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("Linux shows the threads").count()
}

/// Whether this thread of this process waits for something.
pub fn is_asleep(thread: rustix::thread::Pid) -> bool {
    let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    // Its name is in brackets, and may be anything.
    fs::read_to_string(path).is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S")))
}

/// Whether all other threads of this process wait for something.
pub fn others_are_asleep() -> bool {
    let me = rustix::thread::gettid();
    let threads = fs::read_dir("/proc/self/task").expect("Linux shows the threads");
    let mut threads = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    threads.all(|thread| rustix::thread::Pid::from_raw(thread).is_some_and(|thread| thread == me || is_asleep(thread)))
}

/// Bytes of memory that this process has touched and not given back.
pub fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux shows the memory");
    let pages: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * rustix::param::page_size()
}

/// Entries of this process's memory map.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("Linux shows the memory").lines().count()
}

/// What the calling thread has computed so far.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
