//! The dispatch against workers that are played in this process, step by step.

use std::collections::HashMap;

use proptest::prelude::*;
use raddle_core::life::{AtomicState, Event, Outcome};
use raddle_core::prim::{Arc, Mutex};
use raddle_core::sched::{Position, Rank};
use raddle_shm::heap::{Heap, Lease};
use raddle_shm::ring::{Consumer, Header, Producer};

use super::*;
use crate::lane::kind;
use crate::lane::link::{Link, flag, spill_in};
use crate::lane::seat::LATE;
use crate::lane::ticket::Place;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Answered(u64),
    Lost,
    Broken,
}

#[derive(Clone, Default)]
struct Call(Arc<Inside>);

#[derive(Default)]
struct Inside {
    life: AtomicState,
    place: Place,
    ends: Mutex<Vec<End>>,
    leases: Mutex<Vec<Lease>>,
    rank: Rank,
}

impl Ticket for Call {
    fn life(&self) -> &AtomicState {
        &self.0.life
    }

    fn place(&self) -> &Place {
        &self.0.place
    }

    fn rank(&self) -> Rank {
        self.0.rank
    }

    fn lent(&self) -> u64 {
        self.0.leases.lock().iter().map(|lease| lease.len() as u64).sum()
    }

    fn take_leases(&self) -> Vec<Lease> {
        std::mem::take(&mut *self.0.leases.lock())
    }

    fn take_lease(&self, block: u64) -> Option<Lease> {
        let mut leases = self.0.leases.lock();
        let index = leases.iter().position(|lease| lease.piece().block == block)?;
        Some(leases.swap_remove(index))
    }

    fn deliver(&self, reply: Reply) -> bool {
        self.0.ends.lock().push(match reply {
            Reply::Answer { payload, .. } => End::Answered(u64::from_ne_bytes(payload[..8].try_into().unwrap())),
            Reply::Lost(_) => End::Lost,
            Reply::Broken(_) => End::Broken,
        });
        let (_, next) = self.0.life.step(Event::Finish(Outcome::Returned)).expect("a call ends once");
        next.announce
    }
}

impl Call {
    fn ends(&self) -> Vec<End> {
        self.0.ends.lock().clone()
    }
}

/// A worker that does one step at a time.
struct Player {
    requests: Consumer,
    replies: Producer,
    link: Link,
    /// The call that was begun and not answered: its ordinal, and the number in its payload.
    begun: Option<(u64, u64)>,
    functions: HashMap<u32, Vec<u8>>,
    /// Blocks of the parent's heap that the calls which were begun have named, and that were not given back.
    borrowed: Vec<u64>,
}

impl Player {
    fn at(dispatch: &Dispatch<Call>, seat: usize) -> Self {
        let seat = dispatch.seat(seat).expect("there is a seat");
        let link = Link::open(seat.link.fd().try_clone_to_owned().unwrap()).unwrap();
        let (requests, replies) = (link.request_consumer(), link.reply_producer());
        Self { requests, replies, link, begun: None, functions: HashMap::new(), borrowed: Vec::new() }
    }

    fn say(&mut self, kind: u8) {
        self.replies.push(Header { kind, ..Header::default() }, &[]).unwrap();
    }

    /// Begins the next call, unless one is begun or there is none. Passes over what was revoked.
    fn begin(&mut self) {
        while self.begun.is_none() {
            let Some(record) = self.requests.peek().unwrap() else { return };
            let header = record.header;
            let mut payload = record.payload.to_vec();
            if !self.requests.claim() {
                self.requests.advance();
                continue;
            }
            if header.flags & flag::SPILLED != 0 {
                // SAFETY: the record is claimed, so the dispatch leaves its bytes alone until it is answered.
                payload = unsafe { spill_in(self.link.request_spill(), &payload) }.unwrap().to_vec();
            }
            self.requests.advance();
            match header.kind {
                kind::DEFINE => assert!(self.functions.insert(header.tag, payload).is_none(), "sent once"),
                kind::CALL => {
                    assert_eq!(self.functions[&header.tag], header.tag.to_ne_bytes(), "defined before it is called");
                    assert!(payload[8..].iter().all(|&byte| byte == payload[0]), "the bytes changed on their way");
                    self.begun = Some((header.id, u64::from_ne_bytes(payload[..8].try_into().unwrap())));
                }
                kind => assert_eq!(kind, kind::STOP),
            }
        }
    }

    /// Gives back one block, of the call that was begun or of one before.
    fn give_back(&mut self, which: usize) {
        if !self.borrowed.is_empty() {
            let block = self.borrowed.swap_remove(which % self.borrowed.len());
            let header = Header { kind: kind::RELEASED, ..Header::default() };
            self.replies.push(header, &[&block.to_ne_bytes()]).expect("the ring has room for a few answers");
        }
    }

    /// Answers the call that was begun.
    fn answer(&mut self) {
        if let Some((id, number)) = self.begun.take() {
            let header = Header { kind: kind::VALUE, id, extra: 1_000_000, ..Header::default() };
            self.replies.push(header, &[&number.to_ne_bytes()]).expect("the ring has room for a few answers");
        }
    }
}

/// A dispatch with its page, and its players by seat.
struct Play {
    page: Page,
    dispatch: Dispatch<Call>,
    players: HashMap<usize, Player>,
    calls: Vec<Call>,
    taken: Vec<bool>,
    heap: Arc<Heap>,
    /// The blocks that each call names.
    blocks: Vec<Vec<u64>>,
}

impl Play {
    fn new(on_death: OnDeath) -> Self {
        let mut dispatch = Dispatch::new(on_death, Arc::new(Quota::new(None)), Elastic { least: 0, idle: None });
        for tag in 0..3_u32 {
            assert_eq!(dispatch.define(&tag.to_ne_bytes()), tag);
        }
        let (page, _) = Page::create().unwrap();
        let heap = Heap::create("raddle-test-heap", 1 << 20, 0).unwrap();
        Self { page, dispatch, players: HashMap::new(), calls: Vec::new(), taken: Vec::new(), heap, blocks: Vec::new() }
    }

    fn seat(&mut self) -> usize {
        let seat = self.dispatch.add_seat(Seat::new(self.heap.clone(), self.dispatch.lent.clone()).unwrap()).unwrap();
        self.players.insert(seat, Player::at(&self.dispatch, seat));
        seat
    }

    fn live_seat(&mut self) -> usize {
        let seat = self.seat();
        self.player(seat).say(kind::READY);
        self.dispatch.drain();
        seat
    }

    fn player(&mut self, seat: usize) -> &mut Player {
        self.players.get_mut(&seat).unwrap()
    }

    /// Hands in a call with so many bytes beside its number.
    fn submit(&mut self, len: usize) -> usize {
        self.submit_ranked(0, len)
    }

    fn submit_ranked(&mut self, rank: Rank, len: usize) -> usize {
        let number = self.calls.len();
        let bytes = (number as u64).to_ne_bytes();
        let out =
            Outgoing { kind: kind::CALL, flags: 0, tag: number as u32 % 3, parts: &[&bytes, &vec![bytes[0]; len]] };
        let call = Call(Arc::new(Inside { rank, ..Inside::default() }));
        // Some name one block, some two, some the same one twice.
        let mut leases: Vec<Lease> = (0..len % 3).map(|_| self.heap.lease(100).unwrap()).collect();
        if len.is_multiple_of(5) {
            leases.extend(leases.first().map(|lease| self.heap.receive(lease.piece()).unwrap()));
        }
        self.blocks.push(leases.iter().map(|lease| lease.piece().block).collect());
        *call.0.leases.lock() = leases;
        self.dispatch.quota.force(1);
        self.dispatch.submit(call.clone(), &out, &self.page);
        self.calls.push(call);
        self.taken.push(false);
        number
    }

    fn place(&self, call: usize) -> Spot {
        self.calls[call].place().get()
    }

    fn seat_of(&self, call: usize) -> usize {
        match self.place(call) {
            Spot::Seat { seat, .. } => seat,
            other => panic!("not in a seat: {other:?}"),
        }
    }

    fn take_back(&mut self, call: usize) {
        if self.dispatch.take_back(&self.calls[call].clone()).is_some() {
            assert!(!self.taken[call], "taken back twice");
            assert_eq!(self.place(call), Spot::Nowhere);
            self.taken[call] = true;
        }
    }

    /// Rule 15.
    fn check_ranks(&self) {
        if !self.dispatch.ranked {
            return;
        }
        let mut waiting: HashMap<usize, Vec<(u64, Rank)>> = HashMap::new();
        for call in &self.calls {
            if let Spot::Seat { seat, ordinal } = call.place().get()
                && !self.dispatch.has_started(call)
            {
                waiting.entry(seat).or_default().push((ordinal, call.rank()));
            }
        }
        let next = self.dispatch.backlog.front().map(|waiting| waiting.ticket.rank());
        for mut ring in waiting.into_values() {
            ring.sort_unstable();
            let ranks: Vec<Rank> = ring.into_iter().map(|(_, rank)| rank).collect();
            assert!(ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
            assert!(next.is_none_or(|next| ranks.iter().all(|&rank| rank >= next)), "{ranks:?} before {next:?}");
        }
    }

    /// A keeper's pass.
    fn pass(&mut self) {
        self.dispatch.keeper_looks();
        self.dispatch.ask_for_backlog(&self.page);
        self.dispatch.advance();
        self.dispatch.steal(&self.page);
        self.dispatch.arm_keeper();
    }

    /// Has a player begin its next call.
    fn begin(&mut self, seat: usize) {
        let Some(player) = self.players.get_mut(&seat).filter(|player| player.begun.is_none()) else { return };
        player.begin();
        if let Some((_, number)) = player.begun {
            player.borrowed.extend(&self.blocks[number as usize]);
        }
    }

    fn kill(&mut self, seat: usize) {
        if self.players.remove(&seat).is_some() {
            self.dispatch.bury(seat, Ending::Signalled(9));
        }
    }

    /// Lets the players do everything that is left.
    fn finish(&mut self) {
        while self.dispatch.outstanding() > 0 {
            if self.players.is_empty() {
                self.live_seat();
            }
            for seat in self.players.keys().copied().collect::<Vec<_>>() {
                self.begin(seat);
                self.player(seat).answer();
            }
            self.pass();
        }
    }
}

#[test]
fn a_call_goes_to_a_worker_that_is_ready_rather_than_to_one_that_is_not() {
    let mut play = Play::new(OnDeath::Replace);
    let starting = play.seat();
    let live = play.live_seat();
    let (first, second) = (play.submit(0), play.submit(0));
    assert_eq!((play.seat_of(first), play.seat_of(second)), (live, starting));
}

#[test]
fn slow_calls_are_spread_and_cheap_ones_kept_together() {
    let mut play = Play::new(OnDeath::Replace);
    let seats = [play.live_seat(), play.live_seat()];
    let calls: Vec<_> = (0..4).map(|_| play.submit(0)).collect();
    let of = |play: &Play| calls.iter().map(|&call| play.seat_of(call)).collect::<Vec<_>>();
    assert_eq!(of(&play), [seats[0], seats[1], seats[0], seats[1]], "nothing is known yet");
    play.finish();

    // A thousand calls that take no time: from then on a call waits rather than wakes.
    (0..1000).for_each(|_| play.dispatch.pace.record(10));
    let cheap: Vec<_> = (0..4).map(|_| play.submit(0)).collect();
    assert!(cheap.iter().all(|&call| play.seat_of(call) == seats[0]));
    assert!(play.dispatch.owed(false).time, "it should be seen whether that was right");
    assert!(!play.dispatch.owed(false).time, "the timer runs");

    // They were long ones after all. At first the keeper believes the forecast, then it does not.
    play.pass();
    assert_eq!(play.dispatch.seat(seats[1]).unwrap().load(), 0);
    assert!(play.dispatch.owed(true).time);
    let since = Instant::now();
    while since.elapsed() < LATE {
        std::hint::black_box(());
    }
    play.pass();
    assert_eq!(seats.map(|seat| play.dispatch.seat(seat).unwrap().load()), [2, 2]);
    assert_eq!(
        cheap.iter().map(|&call| play.seat_of(call)).collect::<Vec<_>>(),
        [seats[0], seats[0], seats[1], seats[1]]
    );
}

#[test]
fn a_worker_without_calls_takes_those_of_one_that_is_being_started() {
    let mut play = Play::new(OnDeath::Replace);
    let starting = play.seat();
    let call = play.submit(0);
    assert_eq!(play.seat_of(call), starting);
    let live = play.live_seat();
    play.pass();
    assert_eq!(play.seat_of(call), live);
}

#[test]
fn what_a_dead_worker_left_comes_first_and_in_order() {
    let mut play = Play::new(OnDeath::Replace);
    let seat = play.live_seat();
    (0..5).for_each(|_| _ = play.submit(0));
    play.begin(seat);
    play.take_back(2);
    play.kill(seat);
    assert_eq!(play.calls[0].ends(), [End::Lost]);
    let later = play.submit(0);
    let places: Vec<_> = [1, 3, 4, later].map(|call| play.place(call)).into();
    let Spot::Backlog(Position { rank, number }) = places[0] else { panic!("{places:?}") };
    assert_eq!(places, [0, 1, 2, 3].map(|offset| Spot::Backlog(Position { rank, number: number + offset })));
    assert_eq!(play.dispatch.outstanding(), 4);
    play.finish();
    assert_eq!(play.calls[later].ends(), [End::Answered(later as u64)]);
}

#[test]
fn an_urgent_call_stands_before_all_that_has_not_begun() {
    let mut play = Play::new(OnDeath::Replace);
    let seats = [play.live_seat(), play.live_seat()];
    let usual: Vec<_> = (0..100).map(|_| play.submit(0)).collect();
    seats.iter().for_each(|&seat| play.begin(seat));
    let urgent = play.submit_ranked(5, 0);
    let later = play.submit_ranked(-5, 0);
    let seat = play.seat_of(urgent);
    play.player(seat).answer();
    play.begin(seat);
    assert_eq!(play.player(seat).begun.unwrap().1, urgent as u64);
    play.finish();
    assert!(
        usual.into_iter().chain([urgent, later]).all(|call| play.calls[call].ends() == [End::Answered(call as u64)])
    );
    let usual = play.submit(0);
    assert!(!play.dispatch.ranked, "it was empty");
    assert_eq!(play.seat_of(usual), seats[0]);
}

#[test]
fn a_payload_beyond_the_region_is_refused_and_blocks_nobody() {
    let mut play = Play::new(OnDeath::Replace);
    let seat = play.live_seat();
    let limit = play.player(seat).link.request_spill().len();
    assert!(play.dispatch.seat(seat).unwrap().can_hold(limit));
    assert!(!play.dispatch.seat(seat).unwrap().can_hold(limit + 1));
    // As large as the region, without its bytes: nobody looks at them.
    let call = Call::default();
    play.dispatch.refuse(call.clone(), limit + 1);
    assert_eq!(call.ends(), [End::Broken]);
}

#[test]
fn an_idle_worker_is_seen_through_an_answer_that_nobody_has_taken_in() {
    let mut play = Play::new(OnDeath::Replace);
    let seats = [play.live_seat(), play.live_seat()];
    let (first, second) = (play.submit(0), play.submit(0));
    assert_eq!([play.seat_of(first), play.seat_of(second)], seats);
    play.begin(seats[1]);
    play.player(seats[1]).answer();
    let third = play.submit(0);
    assert_eq!(play.seat_of(third), seats[1]);
}

#[test]
fn a_closing_lane_tells_its_workers_to_end_when_there_is_room_to_say_so() {
    let mut play = Play::new(OnDeath::Replace);
    let seat = play.live_seat();
    // As many requests as the ring holds, all of them taken back.
    (0..5000).for_each(|_| _ = play.submit(0));
    play.begin(seat);
    play.dispatch.closing = true;
    assert_eq!(play.dispatch.take_back_all().len(), 4999);
    play.player(seat).answer();
    play.pass();
    assert_eq!(play.dispatch.outstanding(), 0);
    play.begin(seat);
    play.pass();
    assert_eq!(play.dispatch.seat(seat).unwrap().stage, Stage::Leaving);
}

#[test]
fn seats_are_used_again_and_their_number_is_limited() {
    let mut play = Play::new(OnDeath::Replace);
    let seats = [play.seat(), play.seat(), play.seat()];
    assert_eq!(seats, [0, 1, 2]);
    play.dispatch.vacate(1);
    assert_eq!(play.seat(), 1);
    assert_eq!(play.seat(), 3);
    play.dispatch.seats.resize_with(SEATS, || None);
    (4..8).for_each(|number| assert_eq!(play.seat(), number));
    let spot = Spot::Seat { seat: SEATS - 1, ordinal: 5 };
    let place = Place::default();
    place.set(spot);
    assert_eq!(place.get(), spot);
}

/// One step of a play.
#[derive(Clone, Debug)]
enum Step {
    Submit(Rank, usize),
    TakeBack(usize),
    Seat,
    Begin(usize),
    Answer(usize),
    GiveBack(usize, usize),
    Kill(usize),
    Look,
    Pass,
    TakeBackAll,
    Break,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![6 => 0..64_usize, 1 => 16_000..20_000_usize, 1 => Just(100_000_usize)];
    let step = prop_oneof![
        12 => (prop_oneof![9 => Just(0), 1 => -2_i16..3], len).prop_map(|(rank, len)| Step::Submit(rank, len)),
        4 => any::<usize>().prop_map(Step::TakeBack),
        1 => Just(Step::Seat),
        12 => (0..4_usize).prop_map(Step::Begin),
        10 => (0..4_usize).prop_map(Step::Answer),
        6 => (0..4_usize, any::<usize>()).prop_map(|(seat, which)| Step::GiveBack(seat, which)),
        1 => (0..4_usize).prop_map(Step::Kill),
        3 => Just(Step::Look),
        5 => Just(Step::Pass),
        // Rare: nothing much happens afterwards.
        1 => prop_oneof![20 => Just(Step::Pass), 1 => Just(Step::TakeBackAll), 1 => Just(Step::Break)],
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, each call ends in exactly one way, and with its own answer, and what it was lent comes
    /// back once.
    #[test]
    fn each_call_ends_once(steps in steps()) {
        let mut play = Play::new(OnDeath::Replace);
        for step in steps {
            match step {
                Step::Submit(rank, len) if play.dispatch.broken.is_none() => _ = play.submit_ranked(rank, len),
                Step::TakeBack(any) if !play.calls.is_empty() => play.take_back(any % play.calls.len()),
                Step::Seat if play.players.len() < 4 => _ = play.live_seat(),
                Step::Begin(seat) => play.begin(seat),
                Step::GiveBack(seat, which) => {
                    if let Some(player) = play.players.get_mut(&seat) { player.give_back(which) }
                }
                Step::Answer(seat) => if let Some(player) = play.players.get_mut(&seat) { player.answer() },
                Step::Kill(seat) => play.kill(seat),
                Step::Look => play.dispatch.advance(),
                Step::Pass => play.pass(),
                Step::TakeBackAll => {
                    for taken in play.dispatch.take_back_all() {
                        let call = play.calls.iter().position(|call| Arc::ptr_eq(&call.0, &taken.0)).unwrap();
                        prop_assert!(!std::mem::replace(&mut play.taken[call], true));
                    }
                }
                Step::Break => play.dispatch.break_all("enough", Signal::KILL),
                _ => {}
            }
            play.check_ranks();
        }
        play.finish();
        let mut counts = [0; 3];
        for (number, call) in play.calls.iter().enumerate() {
            let ends = call.ends();
            prop_assert_eq!(ends.len() + usize::from(play.taken[number]), 1, "call {} ended {:?}", number, ends);
            prop_assert_eq!(call.place().get(), Spot::Nowhere);
            match ends.first() {
                Some(End::Answered(own)) => { prop_assert_eq!(*own, number as u64); counts[0] += 1 }
                Some(_) => counts[1] += 1,
                None => counts[2] += 1,
            }
        }
        let found = play.dispatch.counts();
        prop_assert_eq!([found.finished, found.failed, found.cancelled], counts);
        prop_assert_eq!((found.pending, found.running), (0, 0));
        prop_assert_eq!(play.dispatch.quota.taken(), 0);
        prop_assert_eq!(play.dispatch.lent.load(Relaxed), 0);

        // Every block is free when its call has ended and the worker that had it has given it back or is dead, and not before.
        let lent: std::collections::HashSet<u64> =
            play.players.values().flat_map(|player| player.borrowed.iter().copied()).collect();
        play.dispatch.drain();
        if play.dispatch.broken.is_none() {
            prop_assert_eq!(play.heap.blocks(), lent.len());
        }
        for seat in play.players.keys().copied().collect::<Vec<_>>() {
            play.kill(seat);
        }
        prop_assert_eq!(play.heap.blocks(), 0);
    }
}
