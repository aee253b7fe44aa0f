//! What lies between senders and receivers, of one kind or another.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::channel::{Broadcast, Channel, Place, Received, Sent, Watch};
use raddle_core::park::Waiter;

use crate::attached::{Attached, ByGil};

/// What attached threads pass values through, one value to one of them. It is the one kind that is used for many small values.
pub(crate) type Values = Channel<Py<PyAny>, ByGil>;

/// A channel of one of the kinds.
#[pyclass(frozen, name = "Pipe", module = "raddle._raddle")]
pub(crate) struct PyPipe {
    pub(crate) kind: Kind,
}

/// What kind it is.
pub(crate) enum Kind {
    Channel(Attached<Values>),
    Broadcast(Broadcast<Py<PyAny>>),
    Watch(Watch<Py<PyAny>>),
}

/// What a receiver knows about where it is: its number in a broadcast, the version that it has seen of a watch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark(pub(crate) u64);

#[pymethods]
impl PyPipe {
    /// With room for so many items; `None`: for any number.
    #[staticmethod]
    fn channel(capacity: Option<usize>) -> Self {
        Self { kind: Kind::Channel(Attached::new(Values::guarded(capacity))) }
    }

    #[staticmethod]
    fn once() -> Self {
        Self { kind: Kind::Channel(Attached::new(Values::guarded_once())) }
    }

    #[staticmethod]
    fn broadcast(capacity: usize, overwrites: bool) -> Self {
        Self { kind: Kind::Broadcast(Broadcast::new(capacity, overwrites)) }
    }

    #[staticmethod]
    fn watch(value: Py<PyAny>) -> Self {
        Self { kind: Kind::Watch(Watch::new(value)) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.kind {
            Kind::Channel(channel) => channel.visited(&visit).peek(|item| visit.call(item)),
            Kind::Broadcast(channel) => channel.peek(|item| visit.call(item)),
            Kind::Watch(channel) => channel.peek(|item| visit.call(item)),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        match &self.kind {
            Kind::Channel(channel) => drop(channel.of(py).take_all()),
            Kind::Broadcast(channel) => drop(channel.take_all()),
            Kind::Watch(channel) => drop(channel.take()),
        }
    }
}

impl PyPipe {
    /// The channel, if items lie in it or are handed over, each to one receiver.
    #[inline]
    pub(crate) fn as_channel<'py>(&'py self, py: Python<'py>) -> Option<&'py Values> {
        if let Kind::Channel(channel) = &self.kind { Some(channel.of(py)) } else { None }
    }

    #[inline]
    pub(crate) fn send(&self, py: Python<'_>, item: Py<PyAny>, place: Option<Place<'_>>) -> Sent<Py<PyAny>> {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).send(item, place),
            Kind::Broadcast(channel) => channel.send(item, place),
            Kind::Watch(channel) => {
                drop(channel.send(item));
                Sent::Done
            }
        }
    }

    /// Receives, and moves the mark.
    #[inline]
    pub(crate) fn recv(&self, py: Python<'_>, mark: &mut Mark, place: Option<Place<'_>>) -> Received<Py<PyAny>> {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).recv(place),
            Kind::Broadcast(channel) => channel.recv(mark.0, |item| item.clone_ref(py), place).0,
            Kind::Watch(channel) => match channel.recv(mark.0, |item| item.clone_ref(py), place) {
                Received::Item((item, version)) => {
                    mark.0 = version;
                    Received::Item(item)
                }
                Received::Empty => Received::Empty,
                Received::Closed => Received::Closed,
                Received::Lagged(count) => Received::Lagged(count),
            },
        }
    }

    pub(crate) fn leave_send(&self, py: Python<'_>, waiter: &Arc<Waiter>) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).leave_send(waiter),
            Kind::Broadcast(channel) => channel.leave_send(waiter),
            Kind::Watch(_) => {}
        }
    }

    pub(crate) fn leave_recv(&self, py: Python<'_>, waiter: &Arc<Waiter>) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).leave_recv(waiter),
            Kind::Broadcast(channel) => channel.leave_recv(waiter),
            Kind::Watch(channel) => channel.leave_recv(waiter),
        }
    }

    /// Has senders who wait look again: the handle of some was closed.
    pub(crate) fn call_senders(&self, py: Python<'_>) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).call_senders(),
            Kind::Broadcast(channel) => channel.call_senders(),
            Kind::Watch(_) => {}
        }
    }

    /// The same for receivers.
    pub(crate) fn call_receivers(&self, py: Python<'_>) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).call_receivers(),
            // They call all whenever one goes.
            Kind::Broadcast(_) | Kind::Watch(_) => {}
        }
    }

    pub(crate) fn add_sender(&self, py: Python<'_>) -> bool {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).add_sender(),
            Kind::Broadcast(channel) => channel.add_sender(),
            Kind::Watch(channel) => channel.add_sender(),
        }
    }

    pub(crate) fn drop_sender(&self, py: Python<'_>) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).drop_sender(),
            Kind::Broadcast(channel) => channel.drop_sender(),
            Kind::Watch(channel) => channel.drop_sender(),
        }
    }

    /// One more receiver beside one with this mark. `None`: there can be none.
    pub(crate) fn copy_receiver(&self, py: Python<'_>, mark: Mark) -> Option<Mark> {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).add_receiver().then_some(mark),
            Kind::Broadcast(channel) => channel.copy_receiver(mark.0).map(Mark),
            Kind::Watch(channel) => {
                channel.add_receiver();
                Some(mark)
            }
        }
    }

    pub(crate) fn drop_receiver(&self, py: Python<'_>, mark: Mark) {
        match &self.kind {
            Kind::Channel(channel) => drop(channel.of(py).drop_receiver()),
            Kind::Broadcast(channel) => drop(channel.drop_receiver(mark.0)),
            Kind::Watch(channel) => channel.drop_receiver(),
        }
    }

    /// How many senders and receivers there are.
    pub(crate) fn ends(&self, py: Python<'_>) -> (usize, usize) {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).ends(),
            Kind::Broadcast(channel) => channel.ends(),
            Kind::Watch(channel) => channel.ends(),
        }
    }

    /// How many items lie in it.
    pub(crate) fn len(&self, py: Python<'_>) -> usize {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).len(),
            Kind::Broadcast(channel) => channel.len(),
            Kind::Watch(_) => 1,
        }
    }

    /// How many there is room for. `None`: any number.
    pub(crate) fn capacity(&self, py: Python<'_>) -> Option<usize> {
        match &self.kind {
            Kind::Channel(channel) => channel.of(py).capacity(),
            Kind::Broadcast(channel) => Some(channel.capacity()),
            Kind::Watch(_) => Some(1),
        }
    }
}
