#![doc = include_str!("../README.md")]

mod batch;
mod buffer;
mod codec;
mod deadlock;
mod errors;
mod future;
mod gate;
mod marks;
mod outlet;
mod parcel;
mod process_lane;
mod reply;
mod results;
mod runtime;
mod thread_lane;
mod trace;
mod watch_set;
mod worker;
mod zygote;

use pyo3::prelude::*;

/// The compiled half of Raddle.
#[pymodule]
mod _raddle {
    #[pymodule_export]
    use super::batch::Input;
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::errors::write_unraisable;
    #[pymodule_export]
    use super::future::FutureCore;
    #[pymodule_export]
    use super::marks::Marks;
    #[pymodule_export]
    use super::outlet::Outlet;
    #[pymodule_export]
    use super::process_lane::{Binding, ProcessLane};
    #[pymodule_export]
    use super::results::{Meter, Results};
    #[pymodule_export]
    use super::runtime::{forked, limit_shared_memory, set_future_type, shared_memory_in_use, shared_memory_limit};
    #[pymodule_export]
    use super::thread_lane::ThreadLane;
    #[pymodule_export]
    use super::trace::CallLog;
    #[pymodule_export]
    use super::watch_set::WatchSet;
    #[pymodule_export]
    use super::worker::work;
    #[pymodule_export]
    use super::zygote::{follow, look_at_child};
}
