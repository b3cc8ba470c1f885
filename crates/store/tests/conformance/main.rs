//! What both engines must do, told once and run on each.
//!
//! A case is a function of a [`place::Place`]: a database of its own. `on_both_engines!` makes two tests of it. The
//! PostgreSQL half needs `TOKENVAULT_TEST_POSTGRES`, which `./test` provides.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

/// Makes two tests of each case, one an engine.
macro_rules! on_both_engines {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    let place = $crate::place::Place::sqlite();
                    super::$case(&place).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    let place = $crate::place::Place::postgres().await;
                    super::$case(&place).await;
                    place.remove().await;
                }
            )*
        }
    };
}

mod availability;
mod batches;
mod crash;
mod look_ups;
mod migrations;
mod place;
mod together;
mod values;
