//! No wake-up is lost at a gong, whoever sleeps there (gong.md).

use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::{Acquire, Relaxed};
use raddle_core::prim::thread;
use raddle_shm::Gong;

/// A gong, and pieces of work of which each is for one sleeper.
struct Post {
    gong: Gong,
    work: AtomicU32,
}

impl Post {
    fn new() -> Arc<Post> {
        Arc::new(Post { gong: Gong::new(), work: AtomicU32::new(0) })
    }

    fn publish(&self) {
        self.work.fetch_add(1, Relaxed);
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
        self.work.load(Relaxed) > 0
    }

    /// A sleeper's loop: takes one piece.
    fn take_one(&self) {
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

    /// A sleeper that gives up after it was woken once.
    fn sleep_once(&self) {
        let intention = self.gong.prepare();
        if !self.has_work() {
            self.gong.sleep(&intention, None);
        }
        self.gong.pass_on(|| self.has_work());
    }
}

fn spawn(post: &Arc<Post>, work: impl FnOnce(&Post) + Send + 'static) -> thread::JoinHandle<()> {
    let post = post.clone();
    thread::spawn(move || work(&post))
}

fn ringer(post: &Post) {
    post.publish();
    post.gong.ring();
}

#[test]
fn a_ring_is_never_lost() {
    loom::model(|| {
        let post = Post::new();
        let other = spawn(&post, ringer);
        post.take_one();
        other.join().unwrap();
    });
}

#[test]
fn two_sleepers_get_what_one_ringer_brings() {
    super::check(3, || {
        let post = Post::new();
        let threads = [spawn(&post, Post::take_one), spawn(&post, Post::take_one)];
        ringer(&post);
        ringer(&post);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_sleepers_get_what_two_ringers_bring() {
    super::check(2, || {
        let post = Post::new();
        let threads = [spawn(&post, Post::take_one), spawn(&post, Post::take_one), spawn(&post, ringer)];
        ringer(&post);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_sleeper_that_gives_up_passes_on_what_it_was_woken_for() {
    super::check(3, || {
        let post = Post::new();
        let other = spawn(&post, Post::take_one);
        // The second piece is for nobody: it ends the sleep of the one that gives up.
        let ringer = spawn(&post, |post| {
            ringer(post);
            ringer(post);
        });
        post.sleep_once();
        other.join().unwrap();
        ringer.join().unwrap();
    });
}

#[test]
fn a_ringer_that_died_is_rung_for() {
    super::check(3, || {
        let post = Post::new();
        let sleeper = spawn(&post, Post::take_one);
        let dead = spawn(&post, |post| {
            post.publish();
            post.gong.die_ringing();
        });
        dead.join().unwrap();
        // Who learns of it.
        post.gong.ring_all();
        sleeper.join().unwrap();
    });
}
