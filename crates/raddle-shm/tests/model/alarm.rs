//! An alarm goes off when it is due, and once (bell.md).

use raddle_core::prim::Arc;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::atomic::{AtomicU32, AtomicU64};
use raddle_core::prim::thread;
use raddle_shm::{Alarm, Bell, futex};

/// A count, and the alarm and the bell of whoever waits for it.
struct Post {
    bell: Bell,
    alarm: Alarm,
    count: AtomicU64,
}

impl Post {
    fn new() -> Arc<Post> {
        Arc::new(Post { bell: Bell::new(), alarm: Alarm::new(), count: AtomicU64::new(0) })
    }

    /// Counts to `last`, as the counting side does. Says how often the alarm was due.
    fn count_to(&self, last: u64) -> usize {
        let step = |count| {
            self.count.store(count, Relaxed);
            let due = self.alarm.due(count);
            if due {
                self.bell.ring();
            }
            usize::from(due)
        };
        (1..=last).map(step).sum()
    }

    /// Waits for a count, as the waiting side does.
    fn wait_for(&self, count: u64) {
        self.alarm.set(count);
        loop {
            let ticket = self.bell.prepare();
            if self.count.load(Relaxed) >= count {
                return self.bell.cancel(ticket);
            }
            self.bell.sleep(ticket, None);
        }
    }
}

fn spawn_counter(post: &Arc<Post>, last: u64) -> thread::JoinHandle<usize> {
    let post = post.clone();
    thread::spawn(move || post.count_to(last))
}

#[test]
fn an_alarm_is_never_lost() {
    loom::model(|| {
        let post = Post::new();
        let counter = spawn_counter(&post, 1);
        post.wait_for(1);
        assert!(counter.join().unwrap() <= 1, "one ring for one alarm");
    });
}

#[test]
fn an_alarm_waits_for_its_count() {
    loom::model(|| {
        let post = Post::new();
        let counter = spawn_counter(&post, 2);
        post.wait_for(2);
        assert!(counter.join().unwrap() <= 1, "one ring for one alarm");
    });
}

#[test]
fn an_alarm_that_is_moved_on_while_it_is_due_is_not_lost() {
    loom::model(|| {
        let post = Post::new();
        let counter = spawn_counter(&post, 2);
        post.alarm.set(1);
        post.wait_for(2);
        assert!(counter.join().unwrap() <= 2, "one ring for each alarm");
    });
}

#[test]
fn an_alarm_is_set_again_for_every_count() {
    super::check(5, || {
        let post = Post::new();
        let counter = spawn_counter(&post, 2);
        post.wait_for(1);
        post.wait_for(2);
        post.alarm.clear();
        assert!(counter.join().unwrap() <= 2, "one ring for each alarm");
    });
}

#[test]
fn two_that_count_take_an_alarm_once() {
    loom::model(|| {
        let post = Post::new();
        post.alarm.set(1);
        let due = || {
            let post = post.clone();
            thread::spawn(move || post.alarm.due(1))
        };
        let (one, other) = (due(), due());
        let taken = usize::from(one.join().unwrap()) + usize::from(other.join().unwrap());
        assert_eq!(taken, 1);
    });
}

#[test]
fn an_alarm_is_not_lost_where_the_waiting_side_has_no_bell() {
    loom::model(|| {
        // As an eventfd: once written to, it stays readable.
        let (post, told) = (Post::new(), Arc::new(AtomicU32::new(0)));
        let counter = {
            let (post, told) = (post.clone(), told.clone());
            thread::spawn(move || {
                post.count.store(1, Relaxed);
                if post.alarm.due(1) {
                    told.store(1, Relaxed);
                    futex::wake(&told, 1);
                }
            })
        };
        post.alarm.set(1);
        while post.count.load(Relaxed) < 1 && told.load(Relaxed) == 0 {
            futex::wait(&told, 0, None);
        }
        counter.join().unwrap();
    });
}
