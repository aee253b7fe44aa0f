//! Who has an ear at a gong misses nothing, and keeps nothing from others (ear.md).

use raddle_core::park::{Line, Waiter};
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed};
use raddle_core::prim::{Arc, Mutex, thread};
use raddle_shm::{Ear, Gong, News};

/// A gong, the ear of this process, and pieces of work of which each is for one.
struct Post {
    gong: Gong,
    ear: Ear,
    work: AtomicU32,
    listeners: Mutex<Vec<thread::JoinHandle<()>>>,
    looks: bool,
}

impl Post {
    fn new(looks: bool) -> Arc<Post> {
        let listeners = Mutex::default();
        Arc::new(Post { gong: Gong::new(), ear: Ear::new(), work: AtomicU32::new(0), listeners, looks })
    }

    fn ring(&self) {
        self.work.fetch_add(1, Relaxed);
        if self.looks {
            self.gong.ring();
        } else {
            self.gong.ring_out();
        }
    }

    fn take(&self) -> bool {
        let mut seen = self.work.load(Acquire);
        while seen > 0 {
            match self.work.compare_exchange(seen, seen - 1, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    fn has_work(&self) -> bool {
        self.looks && self.work.load(Relaxed) > 0
    }

    fn leave(&self, waiter: &Arc<Waiter>) {
        if self.ear.leave(waiter) {
            self.ear.answer(waiter, &self.gong, || self.has_work());
        }
    }

    /// The loop of a sleeper in another process.
    fn sleep_for_one(&self) {
        let mut has_slept = false;
        loop {
            let intention = self.gong.prepare();
            if self.take() {
                if has_slept {
                    self.gong.pass_on(|| self.has_work());
                }
                return;
            }
            self.gong.sleep(&intention, None);
            has_slept = true;
        }
    }

    fn end(&self) {
        self.ear.close(&self.gong);
        let listeners = std::mem::take(&mut *self.listeners.lock());
        listeners.into_iter().for_each(|listener| listener.join().unwrap());
    }
}

fn spawn(post: &Arc<Post>, work: impl FnOnce(&Arc<Post>) + 'static) -> thread::JoinHandle<()> {
    let post = post.clone();
    thread::spawn(move || work(&post))
}

/// Joins the line and looks. `true`: it has taken something, and stands there no more.
fn join(post: &Arc<Post>, waiter: &Arc<Waiter>) -> bool {
    post.ear.join(waiter, false, &post.gong.prepare());
    if post.take() {
        post.leave(waiter);
        return true;
    }
    if post.ear.needs_listener() {
        let listener = spawn(post, |post| {
            let look = || match (post.looks, post.has_work()) {
                (false, _) => News::Perhaps,
                (true, true) => News::Work,
                (true, false) => News::Nothing,
            };
            post.ear.listen(&post.gong, look);
        });
        post.listeners.lock().push(listener);
    }
    false
}

/// A waiter's loop: takes one piece.
fn take_one(post: &Arc<Post>) {
    while !post.take() {
        let waiter = Waiter::new();
        if join(post, &waiter) {
            return;
        }
        _ = waiter.park(None);
        let is_due = post.ear.leave(&waiter);
        let has_taken = post.take();
        if is_due {
            post.ear.answer(&waiter, &post.gong, || post.has_work());
        }
        if has_taken {
            return;
        }
    }
}

#[test]
fn a_waiter_with_an_ear_hears_of_what_is_brought() {
    super::check(3, || {
        let post = Post::new(true);
        let ringer = spawn(&post, |post| post.ring());
        take_one(&post);
        ringer.join().unwrap();
        post.end();
    });
}

#[test]
fn one_that_waits_twice_is_heard_by_a_listener_that_lingers() {
    super::check(2, || {
        let post = Post::new(true);
        let ringer = spawn(&post, |post| {
            post.ring();
            post.ring();
        });
        take_one(&post);
        take_one(&post);
        ringer.join().unwrap();
        post.end();
    });
}

#[test]
fn two_waiters_with_an_ear_get_what_two_rings_bring() {
    super::check(2, || {
        let post = Post::new(true);
        let other = spawn(&post, take_one);
        post.ring();
        post.ring();
        take_one(&post);
        other.join().unwrap();
        post.end();
    });
}

/// One piece more than the sleeper needs would end its sleep; there is just one.
#[test]
fn a_waiter_for_whom_something_else_happens_leaves_the_work_to_others() {
    super::check(2, || {
        let post = Post::new(true);
        let stranger = spawn(&post, |post| post.sleep_for_one());
        let waiter = Waiter::new();
        post.ear.join(&waiter, false, &post.gong.prepare());
        if post.ear.needs_listener() {
            let listener = spawn(&post, |post| {
                let look = || if post.has_work() { News::Work } else { News::Nothing };
                post.ear.listen(&post.gong, look);
            });
            post.listeners.lock().push(listener);
        }
        post.ring();
        post.leave(&waiter);
        stranger.join().unwrap();
        post.end();
    });
}

/// It was called by another line, so the ear finds nobody to call.
#[test]
fn a_waiter_that_was_called_elsewhere_is_passed_over() {
    super::check(2, || {
        let post = Post::new(true);
        let stranger = spawn(&post, |post| post.sleep_for_one());
        let (waiter, mut elsewhere) = (Waiter::new(), Line::default());
        elsewhere.join_as(&waiter, false);
        let has_taken = join(&post, &waiter);
        assert!(!has_taken, "nothing was brought");
        elsewhere.call().wake();
        post.ring();
        stranger.join().unwrap();
        post.leave(&waiter);
        post.end();
    });
}

#[test]
fn news_that_cannot_be_looked_for_reach_all() {
    super::check(2, || {
        let post = Post::new(false);
        let ringer = spawn(&post, |post| post.ring());
        take_one(&post);
        ringer.join().unwrap();
        post.end();
    });
}
