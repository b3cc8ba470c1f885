//! The test harness: a whole deployment in one process, over real HTTP, on a real database, with a clock that moves.
//!
//! A test is a story, told once and run on both engines:
//!
//! ```ignore
//! story!(tk_05_a_made_up_code_leaves_the_grant, |world| { … });
//! ```
//!
//! Each story has a [`World`] of its own. When it ends, the world looks for every secret it used in everything that it
//! wrote: the database, the logs at their most talkative, and the bodies of errors. A secret found is a failed story.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness fails loudly"
)]

mod database;
mod errands;
mod leaks;
mod proxy;
mod rogue;
mod world;

pub use database::{Database, Engine};
pub use errands::{Exchanged, LoggedIn, Refused, Reply, form_of, jwt_claims};
pub use proxy::{Fault, Proxy};
pub use rogue::{Rogue, Says};
pub use world::{Clients, DEMO_API, PASSWORD, SPA_CALLBACK, Setup, USERNAME, WEB_CALLBACK, World};

/// One story, as a test on SQLite and a test on PostgreSQL. The body is an async block that may use `?` with `anyhow`.
#[macro_export]
macro_rules! story {
    ($(#[$attribute:meta])* $name:ident, |$world:ident| $body:block) => {
        $crate::story!($(#[$attribute])* $name, $crate::Setup::default(), |$world| $body);
    };
    ($(#[$attribute:meta])* $name:ident, $setup:expr, |$world:ident| $body:block) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "stories share their imports")]
            use super::*;

            async fn story($world: &mut $crate::World) -> anyhow::Result<()> {
                $body
                #[allow(unreachable_code, reason = "a story may end in its own result")]
                Ok(())
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                $crate::World::tell($crate::Engine::Sqlite, $setup, async |world| story(world).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                $crate::World::tell($crate::Engine::Postgres, $setup, async |world| story(world).await).await;
            }
        }
    };
}
