//! Pieces that are cut, claimed, drafted, taken apart and answered by workers that are played in this process, step by step.

use proptest::prelude::*;
use raddle_core::life::AtomicState;
use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::Relaxed;
use raddle_core::prim::{Arc, Mutex};
use raddle_core::sched::Quota;
use raddle_shm::heap::Heap;
use raddle_shm::ring::{Consumer, Producer};
use std::time::Duration;

use super::*;
use crate::Ending;
use crate::lane::dispatch::Elastic;
use crate::lane::kind;
use crate::lane::link::{Link, spill_in};
use crate::lane::seat::Seat;
use crate::lane::ticket::{OnDeath, Place};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Cancelled,
    Lost,
}

/// The items of a map, and what has become of each.
struct Field {
    fates: Mutex<Vec<Option<Fate>>>,
    runs: Mutex<Vec<u32>>,
    pace: Option<u64>,
}

struct Part {
    field: Arc<Field>,
    from: AtomicU32,
    to: AtomicU32,
    life: AtomicState,
    place: Place,
}

impl Part {
    fn new(field: &Arc<Field>, from: u32, to: u32) -> Self {
        let (from, to) = (AtomicU32::new(from), AtomicU32::new(to));
        Self { field: field.clone(), from, to, life: AtomicState::default(), place: Place::default() }
    }

    fn range(&self) -> std::ops::Range<u32> {
        self.from.load(Relaxed)..self.to.load(Relaxed)
    }

    fn end(&self, fate: Fate) {
        let mut fates = self.field.fates.lock();
        for item in self.range() {
            assert_eq!(fates[item as usize].replace(fate), None, "item {item} ends once");
        }
    }
}

impl Ticket for Part {
    fn life(&self) -> &AtomicState {
        &self.life
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn items(&self) -> u32 {
        self.range().len() as u32
    }

    fn is_piece(&self) -> bool {
        true
    }

    fn write_piece(&self, out: &mut Vec<u8>) {
        self.range().for_each(|item| out.extend_from_slice(&item.to_ne_bytes()));
    }

    fn cut_front(&self, count: u32) -> Option<Self> {
        let from = self.from.fetch_add(count, Relaxed);
        assert!(from + count < self.to.load(Relaxed), "something is left");
        Some(Self::new(&self.field, from, from + count))
    }

    fn cut_back(&self, count: u32) -> Option<Self> {
        let middle = self.from.load(Relaxed) + count;
        let to = self.to.swap(middle, Relaxed);
        assert!(count > 0 && middle < to, "something is cut, and something is left");
        Some(Self::new(&self.field, middle, to))
    }

    fn pace(&self) -> Option<u64> {
        self.field.pace
    }

    fn deliver(&self, reply: Reply) -> bool {
        let Reply::Answer { payload, done, .. } = reply else {
            self.end(Fate::Lost);
            return false;
        };
        let wanted: Vec<u8> = self.range().flat_map(u32::to_ne_bytes).collect();
        assert_eq!((&*payload, done), (&*wanted, self.items()), "an answer is for all of what is left of a piece");
        self.end(Fate::Answered);
        false
    }
}

/// A worker that does one step at a time.
struct Player {
    requests: Consumer,
    replies: Producer,
    link: Link,
    /// The piece that it has claimed and not opened, and its items.
    received: Option<(u64, Vec<u8>)>,
    /// The piece that it is at: its ordinal, its items, and how many are done.
    piece: Option<(u64, Vec<u8>, usize)>,
    /// It has claimed the next item.
    has_claimed: bool,
}

impl Player {
    fn at(dispatch: &Dispatch<Part>, seat: usize) -> Self {
        let seat = dispatch.seat(seat).expect("there is a seat");
        let link = Link::open(seat.link.fd().try_clone_to_owned().unwrap()).unwrap();
        let (requests, replies) = (link.request_consumer(), link.reply_producer());
        Self { requests, replies, link, received: None, piece: None, has_claimed: false }
    }

    fn say_ready(&mut self) {
        self.replies.push(Header { kind: kind::READY, ..Header::default() }, &[]).unwrap();
    }

    /// Takes the next piece, unless it is at one or there is none.
    fn take(&mut self) {
        self.receive();
        if let Some((id, items)) = self.received.take() {
            self.link.clear_draft();
            self.link.stint().open(id, (items.len() / 4) as u32);
            self.piece = Some((id, items, 0));
        }
    }

    /// Claims the next piece and does not open it yet: it reads its function.
    fn receive(&mut self) {
        while self.piece.is_none() && self.received.is_none() {
            let Some(record) = self.requests.peek().unwrap() else { return };
            let (header, mut items) = (record.header, record.payload.to_vec());
            if !self.requests.claim() {
                self.requests.advance();
                continue;
            }
            if header.flags & flag::SPILLED != 0 {
                // SAFETY: the record is claimed, so the dispatch leaves its bytes alone until it is answered.
                items = unsafe { spill_in(self.link.request_spill(), &items) }.unwrap().to_vec();
            }
            self.requests.advance();
            if header.kind == kind::PIECE {
                self.received = Some((header.id, items));
            }
        }
    }

    /// Does so many items of its piece, and answers if there are no more.
    fn work(&mut self, field: &Field, items: usize) {
        for _ in 0..items {
            let Some((_, bytes, done)) = &mut self.piece else { return };
            if !std::mem::take(&mut self.has_claimed) && !self.link.stint().begin() {
                return self.answer();
            }
            let item = &bytes[4 * *done..][..4];
            field.runs.lock()[u32::from_ne_bytes(item.try_into().unwrap()) as usize] += 1;
            let has_room = self.link.draft(4 * *done, item, *done as u32 + 1, 0);
            *done += 1;
            assert!(has_room);
        }
    }

    /// Claims the next item, and may never begin it.
    fn claim(&mut self) {
        self.has_claimed |= self.piece.is_some() && self.link.stint().begin();
    }

    /// Answers with what it has done.
    fn answer(&mut self) {
        let Some((id, bytes, done)) = self.piece.take_if(|(.., done)| *done > 0) else { return };
        self.has_claimed = false;
        self.link.stint().close();
        let flags = flag::LIST | flag::COUNTED;
        let header = Header { kind: kind::VALUE, flags, tag: done as u32, id, extra: 1 };
        self.replies.push(header, &[&0_u32.to_ne_bytes(), &bytes[..4 * done]]).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    HandIn(u32),
    Receive(usize),
    Take(usize),
    Work(usize, usize),
    Answer(usize),
    Claim(usize),
    Look,
    TakeLate,
    Cancel,
    Kill(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..200_u32).prop_map(Step::HandIn),
        2 => (0..3_usize).prop_map(Step::Receive),
        4 => (0..3_usize).prop_map(Step::Take),
        6 => (0..3_usize, 1..100_usize).prop_map(|(seat, items)| Step::Work(seat, items)),
        2 => (0..3_usize).prop_map(Step::Answer),
        2 => (0..3_usize).prop_map(Step::Claim),
        4 => Just(Step::Look),
        3 => Just(Step::TakeLate),
        1 => Just(Step::Cancel),
        1 => (0..3_usize).prop_map(Step::Kill),
    ]
}

struct Play {
    page: Page,
    dispatch: Dispatch<Part>,
    heap: Arc<Heap>,
    field: Arc<Field>,
    players: Vec<Option<Player>>,
    /// How much later it is in this play than it is.
    later: Duration,
}

impl Play {
    fn new(pace: Option<u64>) -> Self {
        let mut dispatch =
            Dispatch::new(OnDeath::Replace, Arc::new(Quota::new(None)), Elastic { least: 0, idle: None });
        dispatch.define(b"function");
        let heap = Heap::create("raddle-test-heap", 1 << 20, 0).unwrap();
        let field = Arc::new(Field { fates: Mutex::default(), runs: Mutex::default(), pace });
        let (page, _) = Page::create().unwrap();
        let mut play =
            Self { page, dispatch, heap, field, players: (0..3).map(|_| None).collect(), later: Duration::ZERO };
        (0..3).for_each(|_| play.hire());
        play
    }

    fn hire(&mut self) {
        let seat = Seat::new(self.heap.clone(), self.dispatch.lent.clone()).unwrap();
        let number = self.dispatch.add_seat(seat).unwrap();
        let mut player = Player::at(&self.dispatch, number);
        player.say_ready();
        self.players[number] = Some(player);
        self.dispatch.advance();
    }

    fn player(&mut self, seat: usize) -> &mut Player {
        self.players[seat].as_mut().expect("who dies is replaced")
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::HandIn(items) => {
                let from = self.field.fates.lock().len() as u32;
                self.field.fates.lock().resize((from + items) as usize, None);
                self.field.runs.lock().resize((from + items) as usize, 0);
                let part = Part::new(&self.field, from, from + items);
                let out = Outgoing { kind: kind::PIECE, flags: flag::LIST, tag: 0, parts: &[] };
                self.dispatch.quota.force(u64::from(items));
                self.dispatch.submit_piece(part, &out, 4 * items as usize, &self.page);
            }
            Step::Receive(seat) => self.player(seat).receive(),
            Step::Take(seat) => self.player(seat).take(),
            Step::Work(seat, items) => {
                let field = self.field.clone();
                self.player(seat).work(&field, items);
            }
            Step::Answer(seat) => self.player(seat).answer(),
            Step::Claim(seat) => self.player(seat).claim(),
            Step::Look => self.dispatch.advance(),
            Step::TakeLate => {
                let now = Instant::now() + self.later;
                self.dispatch.drain();
                self.dispatch.seats.iter_mut().flatten().for_each(|seat| seat.note_front(now));
                self.later += Duration::from_secs(3600);
                self.dispatch.leave_late_pieces(now + Duration::from_secs(3600));
            }
            Step::Cancel => {
                self.dispatch.take_back_where(&|_| true).iter().for_each(|part| part.end(Fate::Cancelled));
            }
            Step::Kill(seat) => {
                self.players[seat] = None;
                self.dispatch.bury(seat, Ending::Unknown);
                self.hire();
            }
        }
        self.dispatch.graveyard.clear();
    }

    /// Does what is left, and looks at what has become of each item.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.dispatch.outstanding() == 0 {
                break;
            }
            for seat in 0..3 {
                [Step::Take(seat), Step::Work(seat, 50), Step::Look].iter().for_each(|step| self.step(step));
            }
        }
        assert_eq!(self.dispatch.outstanding(), 0, "everything comes to an end");
        let (fates, runs) = (self.field.fates.lock(), self.field.runs.lock());
        for (item, (fate, &runs)) in fates.iter().zip(&*runs).enumerate() {
            let fits = match fate.unwrap_or_else(|| panic!("item {item} has no end")) {
                Fate::Answered => runs == 1,
                Fate::Cancelled => runs == 0,
                Fate::Lost => runs <= 1,
            };
            assert!(fits, "item {item} ran {runs} times and ended as {fate:?}");
        }
        let (counts, count) =
            (self.dispatch.counts(), |wanted| fates.iter().filter(|fate| **fate == Some(wanted)).count() as u64);
        assert_eq!(counts.submitted, fates.len() as u64);
        assert_eq!(counts.finished, count(Fate::Answered));
        assert_eq!(counts.cancelled, count(Fate::Cancelled));
        assert_eq!(counts.failed, count(Fate::Lost));
    }
}

proptest! {
    #[test]
    fn every_item_runs_once_and_ends_once(
        pace in proptest::option::of(1..200_000_u64),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut play = Play::new(pace);
        steps.iter().for_each(|step| play.step(step));
        play.finish();
    }
}

/// A play in which seat 0 has done three items of a piece of many and is at the fourth.
fn busy() -> Play {
    let mut play = Play::new(Some(100));
    play.step(&Step::HandIn(600));
    play.step(&Step::Take(0));
    play.step(&Step::Work(0, 3));
    play.step(&Step::Claim(0));
    play
}

#[test]
fn a_late_piece_keeps_nothing_but_the_item_that_runs() {
    let mut play = busy();
    play.step(&Step::TakeLate);
    assert_eq!(play.field.fates.lock()[..4], [Some(Fate::Answered), Some(Fate::Answered), Some(Fate::Answered), None]);
    assert_eq!(play.dispatch.seat(0).unwrap().load(), 1);
    for seat in [1, 2].repeat(100) {
        [Step::Take(seat), Step::Work(seat, 50), Step::Look].iter().for_each(|step| play.step(step));
    }
    let fates = play.field.fates.lock();
    assert_eq!(fates.iter().filter(|fate| fate.is_none()).count(), 1, "the others have done the rest");
    assert_eq!(fates[3], None);
}

#[test]
fn a_piece_that_was_late_before_its_worker_had_begun_it_is_looked_at_again() {
    let mut play = Play::new(Some(100));
    play.step(&Step::HandIn(600));
    play.step(&Step::Receive(0));
    (0..3).for_each(|_| play.step(&Step::TakeLate));
    play.step(&Step::Take(0));
    play.step(&Step::Work(0, 3));
    play.step(&Step::Claim(0));
    play.step(&Step::TakeLate);
    assert_eq!(play.field.fates.lock()[..4], [Some(Fate::Answered), Some(Fate::Answered), Some(Fate::Answered), None]);
    for seat in [1, 2].repeat(100) {
        [Step::Take(seat), Step::Work(seat, 50), Step::Look].iter().for_each(|step| play.step(step));
    }
    assert_eq!(
        play.field.fates.lock().iter().filter(|fate| fate.is_none()).count(),
        1,
        "the others have done the rest"
    );
}

#[test]
fn an_item_that_was_claimed_and_not_begun_goes_elsewhere() {
    let mut play = busy();
    play.step(&Step::TakeLate);
    play.step(&Step::Answer(0));
    play.finish();
    assert!(play.field.fates.lock().iter().all(|fate| *fate == Some(Fate::Answered)));
}

#[test]
fn what_is_cancelled_is_taken_out_of_the_piece_that_runs() {
    let mut play = busy();
    play.step(&Step::Cancel);
    let cancelled = play.field.fates.lock().iter().filter(|fate| **fate == Some(Fate::Cancelled)).count();
    assert_eq!(cancelled, 596);
}

#[test]
fn what_nobody_knows_the_pace_of_goes_item_by_item() {
    let mut play = Play::new(None);
    play.step(&Step::HandIn(100));
    let loads: Vec<usize> = (0..3).map(|seat| play.dispatch.seat(seat).unwrap().load()).collect();
    assert_eq!(loads, [UNKNOWN_AHEAD; 3]);
    let mut begun = Vec::new();
    for seat in 0..3 {
        play.step(&Step::Take(seat));
        begun.extend_from_slice(&play.player(seat).piece.as_ref().unwrap().1);
    }
    assert_eq!(begun, [0_u32, 1, 2].map(u32::to_ne_bytes).concat(), "in the order of the input");
}
