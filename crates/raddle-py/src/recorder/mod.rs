//! The recorder: what `raddle run` has in every process of the program.
//!
//! It is loaded by one line in a `.pth` file when an interpreter starts with `RADDLE_SESSION` in its environment, and notes from within what cannot be seen
//! from outside: each wait for a lock with its holder, each wait for the GIL, who started which thread, exceptions that nobody handled. It writes
//! them into a mapped file (`raddle_trace::events`).
//!
//! ```text
//!   .pth ─▶ start ─▶ lock    in front of the methods of locks ──▶ table   what is known of each lock
//!                 ─▶ gil     in front of two functions of pthread     order   in which order they are taken
//!                                                                     permit  who has permits of semaphores
//!                 ─▶ life    in front of the starts of threads        place   where, by the interpreter's own frames
//!                 ─▶ join    in front of what tells of their ends     here    each thread's block ─▶ file
//!                 ─▶ fork    a child has a file of its own
//!                 ─▶ children  in front of what tells how they end
//! ```
//!
//! # Rules
//!
//! 1. The program must not notice. Nothing of it is imported, replaced or named; what stands in front of a function calls it with the same arguments and
//!    returns what it returns.
//! 2. When anything does not fit, it is left as it is and a note says so. The program goes on in any case.
//! 3. No code of the program runs in here, no Python object is made on a path that a running program takes, nothing is allocated but once for each thread.
//! 4. The GIL of the main interpreter guards what is not a thread's own. What runs without it (waits for the GIL, ends of threads) touches its own only.
//! 5. No function here panics: no index without a bound that the line shows, no arithmetic that overflows.
//!
//! # What a free lock costs
//!
//! Where a program works, its own data fills the processor's nearest cache, and what the recorder does costs as many lines of that as it touches. So what is
//! read at each taking of a free lock lies close together: the statics in one section of the extension (`raddle_recorder`), a thread's in two lines, a
//! lock's in one. A lock that is taken while another one is held needs one more of the thread's, of the orders that it knows.

mod children;
mod file;
mod fork;
mod gil;
mod got;
mod guarded;
mod here;
mod join;
mod life;
mod lock;
mod method;
mod order;
mod permit;
mod place;
mod start;
mod table;
