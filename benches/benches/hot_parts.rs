//! The parts of the crate that every message or connection goes through, each by itself.
//!
//!     cargo bench --manifest-path benches/Cargo.toml --bench hot_parts

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use socketserver::Addr;
use socketserver::backend::hot_parts::{Deadlines, StackPool, Switching};
use socketserver::frame::{Frames, Framing, LengthDelimited, Lines};

/// As many as a busy loop has.
const TASKS: usize = 10_000;

fn coroutines(criterion: &mut Criterion) {
    let mut switching = Switching::start().expect("a stack");
    criterion.bench_function("coroutine: there and back", |bencher| bencher.iter(|| switching.switch()));

    let mut pool = StackPool::new();
    criterion.bench_function("stack: acquire and release", |bencher| {
        bencher.iter(|| {
            let stack = pool.acquire().expect("a stack");
            pool.release(black_box(stack));
        })
    });
    criterion.bench_function("stack: a new one", |bencher| {
        bencher.iter_batched_ref(StackPool::new, |pool| pool.acquire().expect("a stack"), BatchSize::PerIteration)
    });
}

fn deadlines(criterion: &mut Criterion) {
    let now = Instant::now();
    let at = |index: usize| now + Duration::from_millis(index as u64);
    let mut timers = Deadlines::default();
    (0..TASKS).for_each(|slot| timers.set(slot, at(TASKS + slot)));

    let mut later = TASKS;
    criterion.bench_function("timer: set again, later", |bencher| {
        bencher.iter(|| {
            later += 1;
            timers.set(black_box(TASKS / 2), at(TASKS + later));
        })
    });
    criterion.bench_function("timer: set as the earliest of 10,000, and cancel", |bencher| {
        bencher.iter(|| {
            timers.set(TASKS, at(0));
            timers.cancel(black_box(TASKS));
        })
    });
}

fn frames(criterion: &mut Criterion) {
    const FRAMES: usize = 100;
    let mut length_delimited = Vec::new();
    let mut lines = Vec::new();
    for _ in 0..FRAMES {
        LengthDelimited::default().write_frame(&mut length_delimited, &[b'x'; 60]).expect("a vector takes everything");
        Lines::default().write_frame(&mut lines, &[b'x'; 60]).expect("a vector takes everything");
    }
    criterion.bench_function("frames: 100 of 60 bytes, by length", |bencher| {
        bencher.iter(|| assert_eq!(count(black_box(&length_delimited), LengthDelimited::default()), FRAMES))
    });
    criterion.bench_function("frames: 100 of 60 bytes, by line", |bencher| {
        bencher.iter(|| assert_eq!(count(black_box(&lines), Lines::default()), FRAMES))
    });
}

fn count(stream: &[u8], framing: impl Framing) -> usize {
    let mut frames = Frames::new(stream, framing);
    let mut count = 0;
    while frames.next().expect("whole frames").is_some() {
        count += 1;
    }
    count
}

fn addresses(criterion: &mut Criterion) {
    for text in ["tcp://127.0.0.1:9999", "udp://[::1]:53", "unix:///run/socketserver.sock"] {
        criterion.bench_function(&format!("address: {text}"), |bencher| {
            bencher.iter(|| black_box(text).parse::<Addr>().expect("an address"))
        });
    }
}

criterion_group!(hot_parts, coroutines, deadlines, frames, addresses);
criterion_main!(hot_parts);
