//! What threads pass values through, through public names and with real threads.

#![cfg(not(loom))]

mod queue;
