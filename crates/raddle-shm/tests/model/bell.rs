//! No wake-up is lost at a bell (bell.md).

use raddle_core::park::Patience;
use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::thread;
use raddle_shm::Bell;

/// A bell, and work that is published for whoever sleeps there.
struct Post {
    bell: Bell,
    work: AtomicU32,
}

impl Post {
    fn new() -> Arc<Post> {
        Arc::new(Post { bell: Bell::new(), work: AtomicU32::new(0) })
    }

    /// Publishes without any ordering: the bell's own fences have to do.
    fn publish(&self) {
        self.work.fetch_add(1, Relaxed);
    }

    /// The same for a sleeper that looks before it sleeps.
    fn wait_patiently_for(&self, work: u32) {
        let patience = Patience::new();
        loop {
            let ticket = self.bell.prepare();
            if self.work.load(Relaxed) >= work {
                return self.bell.cancel(ticket);
            }
            self.bell.sleep_patiently(ticket, None, &patience);
        }
    }

    /// The sleeper's loop, as bell.md has it: until so much work is there. Says how often it slept.
    fn wait_for(&self, work: u32) -> usize {
        let mut slept = 0;
        loop {
            let ticket = self.bell.prepare();
            if self.work.load(Relaxed) >= work {
                self.bell.cancel(ticket);
                return slept;
            }
            self.bell.sleep(ticket, None);
            slept += 1;
        }
    }
}

#[test]
fn a_ring_is_never_lost() {
    loom::model(|| {
        let post = Post::new();
        let ringer = {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                post.bell.ring()
            })
        };
        let slept = post.wait_for(1);
        let rang = ringer.join().unwrap();
        assert!(slept <= usize::from(rang), "no sleep ends without a ring");
    });
}

#[test]
fn a_ring_is_never_lost_on_a_sleeper_that_looks_first() {
    loom::model(|| {
        let post = Post::new();
        let ringer = {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                post.bell.ring();
            })
        };
        post.wait_patiently_for(1);
        ringer.join().unwrap();
    });
}

#[test]
fn two_ringers_wake_a_sleeper_that_looks_first_for_both() {
    super::check(4, || {
        let post = Post::new();
        let ringer = || {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                post.bell.ring();
            })
        };
        let (one, other) = (ringer(), ringer());
        post.wait_patiently_for(2);
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn two_ringers_wake_one_sleeper_for_both() {
    super::check(4, || {
        let post = Post::new();
        let ringer = || {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                post.bell.ring()
            })
        };
        let (one, other) = (ringer(), ringer());
        post.wait_for(2);
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn one_ringer_rings_twice_for_a_sleeper_that_sleeps_twice() {
    super::check(6, || {
        let post = Post::new();
        let ringer = {
            let post = post.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    post.publish();
                    post.bell.ring();
                }
            })
        };
        post.wait_for(1);
        post.wait_for(2);
        ringer.join().unwrap();
    });
}

#[test]
fn one_sleep_costs_one_ring() {
    loom::model(|| {
        let post = Post::new();
        let ringer = || {
            let post = post.clone();
            thread::spawn(move || post.bell.ring())
        };
        let (one, other) = (ringer(), ringer());
        let ticket = post.bell.prepare();
        post.bell.cancel(ticket);
        let rang = usize::from(one.join().unwrap()) + usize::from(other.join().unwrap());
        assert!(rang <= 1, "two rings for one intention to sleep");
    });
}

/// What a ringer had done when it died.
#[derive(Clone, Copy)]
enum Died {
    Published,
    /// It had undertaken to wake the sleeper, so that nobody else would.
    Undertook,
}

fn a_supervisor_wakes_for_a_dead_ringer(died: Died) {
    loom::model(move || {
        let post = Post::new();
        let ringer = {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                if let Died::Undertook = died {
                    post.bell.die_ringing();
                }
            })
        };
        let supervisor = {
            let post = post.clone();
            thread::spawn(move || {
                // It knows of the death: the ringer takes no more steps.
                ringer.join().unwrap();
                post.bell.ring_always();
            })
        };
        post.wait_for(1);
        supervisor.join().unwrap();
    });
}

#[test]
fn a_ringer_that_died_before_it_rang_is_rung_for() {
    a_supervisor_wakes_for_a_dead_ringer(Died::Published);
}

#[test]
fn a_ringer_that_died_while_it_rang_is_rung_for() {
    a_supervisor_wakes_for_a_dead_ringer(Died::Undertook);
}

#[test]
fn a_sleeper_that_was_rung_sees_what_was_published() {
    loom::model(|| {
        let post = Post::new();
        let ringer = {
            let post = post.clone();
            thread::spawn(move || {
                post.publish();
                post.bell.ring()
            })
        };
        let ticket = post.bell.prepare();
        if post.work.load(Relaxed) == 0 {
            post.bell.sleep(ticket, None);
            // Without another `prepare`: one ring, one sleep, so this look must do.
            assert_eq!(post.work.load(Relaxed), 1);
        } else {
            post.bell.cancel(ticket);
        }
        ringer.join().unwrap();
    });
}
