#![doc = include_str!("../README.md")]

mod attached;
mod awaited;
mod batch;
mod buffer;
mod channel;
mod classes;
mod codec;
mod crew;
mod dump;
mod errors;
mod events;
mod exits;
mod future;
mod gate;
mod lock_order;
mod marks;
mod of_process;
mod outlet;
mod parcel;
mod piece;
mod process_lane;
mod queue;
mod recorder;
mod reply;
mod results;
mod run;
mod runtime;
mod shared_channel;
mod shortcut;
mod span;
mod sync;
mod thread_lane;
mod top;
mod trace;
mod turnstile;
mod unit;
mod wait_graph;
mod watch_set;
mod worker;
mod zygote;

use pyo3::prelude::*;

/// The compiled half of Raddle.
#[pymodule]
mod _raddle {
    // Functions. The classes are in `classes.rs`.
    #[pymodule_export]
    use super::channel::{select, silence_bells};
    #[pymodule_export]
    use super::dump::dump;
    #[pymodule_export]
    use super::errors::write_unraisable;
    #[pymodule_export]
    use super::events::read_events;
    #[pymodule_export]
    use super::lock_order::{end_lock_order, follow_lock_order, fork_lock_order, watch_lock_order};
    #[pymodule_export]
    use super::run::explain_finding;
    #[pymodule_export]
    use super::runtime::{forked, limit_shared_memory, set_future_type, shared_memory_in_use, shared_memory_limit};
    #[pymodule_export]
    use super::shared_channel::{channels_after_fork, channels_before_fork, channels_in_child, channels_taken_up};
    #[pymodule_export]
    use super::top::top;
    #[pymodule_export]
    use super::unit::{
        arm, checkpoint, disarm, join_unit, list_units, lower_shield, my_unit, order, raise_shield, recall, throw,
    };
    #[pymodule_export]
    use super::wait_graph::wait_of;
    #[pymodule_export]
    use super::worker::work;
    #[pymodule_export]
    use super::zygote::{follow, look_at_child};

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::classes::add_to(module)
    }
}
