//! Every item of a piece is begun by its worker or taken by its parent, and never both (`Stint`).

use raddle_core::prim::Arc;
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::thread;
use raddle_shm::Stint;

/// Works through a piece, and says how many items it has done.
fn work(stint: &Stint, number: u64, items: u32, runs: &[AtomicU32]) -> u32 {
    stint.open(number, items);
    let mut done = 0;
    while stint.begin() {
        runs[done as usize].fetch_add(1, Relaxed);
        done += 1;
    }
    stint.close();
    done
}

#[test]
fn an_item_is_begun_or_taken() {
    loom::model(|| {
        const ITEMS: u32 = 3;
        let stint = Arc::new(Stint::new());
        let runs: Arc<[AtomicU32; ITEMS as usize]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
        let worker = {
            let (stint, runs) = (stint.clone(), runs.clone());
            thread::spawn(move || work(&stint, 5, ITEMS, &*runs))
        };
        let mut left = ITEMS;
        for _ in 0..2 {
            if let Some(from) = stint.take(5, left) {
                assert!(0 < from && from < left, "something was taken, and not the first item");
                runs[from as usize..left as usize].iter().for_each(|run| _ = run.fetch_add(1, Relaxed));
                left = from;
            }
        }
        assert_eq!(worker.join().unwrap(), left, "the worker has done what was left to it");
        assert!(runs.iter().all(|run| run.load(Relaxed) == 1), "each item once");
    });
}

#[test]
fn what_is_meant_for_one_piece_does_not_meet_the_next() {
    loom::model(|| {
        let stint = Arc::new(Stint::new());
        let runs: Arc<[AtomicU32; 2]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
        let worker = {
            let (stint, runs) = (stint.clone(), runs.clone());
            thread::spawn(move || (work(&stint, 1, 2, &*runs), work(&stint, 2, 2, &*runs)))
        };
        let taken = stint.take(1, 2);
        assert!(taken.is_none_or(|from| from == 1));
        let (first, second) = worker.join().unwrap();
        assert_eq!((first, second), (taken.unwrap_or(2), 2));
    });
}

#[test]
fn what_is_read_about_a_piece_is_about_that_piece() {
    loom::model(|| {
        let (stint, note) = (Arc::new(Stint::new()), Arc::new(AtomicU32::new(0)));
        let worker = {
            let (stint, note) = (stint.clone(), note.clone());
            thread::spawn(move || {
                for piece in 1..=3 {
                    note.store(0, Relaxed);
                    stint.open(piece, 1);
                    note.store(piece as u32, Relaxed);
                    stint.close();
                }
            })
        };
        let found = stint.during(2, || note.load(Relaxed));
        assert!(matches!(found, None | Some(0 | 2)), "{found:?}");
        worker.join().unwrap();
    });
}
