//! Memory that several processes see: a descriptor ([`Segment`]) and views of it ([`Mapping`]).

mod mapping;
mod memfd;
mod shared;

pub use mapping::Mapping;
pub use memfd::Segment;
pub use shared::Shared;
