//! [`Timers`]: at most one deadline for each task of a loop.

use std::time::Instant;

/// Deadlines by slot, in a binary heap that knows where each slot is.
///
/// Setting and cancelling cost O(log n) at the most and allocate only when more tasks have a deadline than ever before, or one in a
/// higher slot. The usual case costs next to nothing: a read timeout that is set again for every message is later than the deadline
/// that the heap has for the slot already, and that one is left in place. When it comes, the later one replaces it.
#[derive(Default)]
pub(super) struct Timers {
    /// A binary heap, the earliest first. None is later than the deadline of its slot, which may have been set again since.
    heap: Vec<(Instant, usize)>,
    /// As long as the highest slot that has had a deadline asks for: a task without one takes no memory here.
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    /// Its deadline, if it has one: looked at only while the slot is in the heap.
    until: Option<Instant>,
    /// Where in the heap it is. It is there if it has a deadline, and may be there if it had one.
    position: Option<usize>,
}

impl Timers {
    /// Gives `slot` this deadline in place of the one that it has.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, until: Option<Instant>) {
        let Some(at) = until else {
            if let Some(known) = self.slots.get_mut(slot) {
                known.until = None;
            }
            return;
        };
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, Slot::default());
        }
        self.slots[slot].until = until;
        match self.slots[slot].position {
            Some(index) if self.heap[index].0 <= at => {}
            Some(index) => {
                self.heap[index].0 = at;
                self.sift_up(index);
            }
            None => {
                self.heap.push((at, slot));
                self.sift_up(self.heap.len() - 1);
            }
        }
    }

    /// Forgets the slot, whose task has ended.
    pub(super) fn cancel(&mut self, slot: usize) {
        if let Some(index) = self.slots.get(slot).and_then(|known| known.position) {
            self.remove(index);
        }
    }

    /// The earliest deadline, or a moment before it.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes the slot with the earliest deadline, if that has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let (at, slot) = *self.heap.first()?;
            if at > now {
                return None;
            }
            match self.slots[slot].until {
                Some(until) if until > at => {
                    self.heap[0].0 = until;
                    self.sift_down(0);
                }
                until => {
                    self.cancel(slot);
                    if until.is_some() {
                        return Some(slot);
                    }
                }
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let (_, slot) = self.heap.swap_remove(index);
        self.slots[slot].position = None;
        if index < self.heap.len() {
            // The last one came here: it may belong further up or further down.
            let index = self.sift_up(index);
            self.sift_down(index);
        }
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.heap[parent].0 <= self.heap[index].0 {
                break;
            }
            self.heap.swap(parent, index);
            self.note(index);
            index = parent;
        }
        self.note(index);
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let children = 2 * index + 1..(2 * index + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|child| self.heap[*child].0) else { break };
            if self.heap[index].0 <= self.heap[child].0 {
                break;
            }
            self.heap.swap(index, child);
            self.note(index);
            index = child;
        }
        self.note(index);
    }

    fn note(&mut self, index: usize) {
        let slot = self.heap[index].1;
        self.slots[slot].position = Some(index);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, Option<u64>),
        Cancel(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20usize, prop::option::of(0..1000u64)).prop_map(|(slot, after)| Step::Set(slot, after)),
            (0..20usize).prop_map(Step::Cancel),
            (0..300u64).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Whatever is set and cancelled, what fires is what a plain map would fire, in order of time.
        #[test]
        fn fires_what_a_map_would_fire(steps in prop::collection::vec(step(), 0..400)) {
            let base = Instant::now();
            let at = |time: u64| base + Duration::from_millis(time);
            let (mut timers, mut model, mut now) = (Timers::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Set(slot, after) => {
                        timers.set(slot, after.map(|after| at(now + after)));
                        match after {
                            Some(after) => model.insert(slot, now + after),
                            None => model.remove(&slot),
                        };
                    }
                    Step::Cancel(slot) => {
                        timers.cancel(slot);
                        model.remove(&slot);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut last = 0;
                        while let Some(slot) = timers.pop_due(at(now)) {
                            let time = model.remove(&slot).expect("only what was set fires");
                            prop_assert!(last <= time && time <= now);
                            last = time;
                        }
                        prop_assert!(model.values().all(|time| *time > now));
                    }
                }
                let next = timers.next();
                prop_assert!(model.values().all(|time| next.is_some_and(|next| next <= at(*time))));
            }
        }
    }
}
