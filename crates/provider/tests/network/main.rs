//! The outbound client against servers that mean harm: what a custom connection's addresses may lead to (threats 5.9)
//! and what may come back from them (threats 5.10, F-11, F-46 to F-48).
//!
//! Nothing here leaves this host. Names are looked up in a [`calls::Names`] of the test's own.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail loudly"
)]

mod addresses;
mod answers;
mod calls;
mod certificates;
mod hostile;
