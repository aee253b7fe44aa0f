//! Scheduling, through public names: one file per part.

#![cfg(not(loom))]

mod balance;
mod pace;
mod queue;
