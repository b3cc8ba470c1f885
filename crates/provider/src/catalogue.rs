//! The strategies of a deployment: the files that are compiled in, and those of the deployment's own folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::profile::{InvalidProfile, Profile};

/// The files of `providers/`, by name.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/providers.rs"));

/// The largest file that is read from a folder, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Every strategy there is, by name.
#[derive(Debug, Default)]
pub struct Catalogue {
    profiles: BTreeMap<String, Arc<Profile>>,
}

/// Why a deployment's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The folder or a file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is no profile.
    #[error("{file} is no provider profile: {source}")]
    Profile {
        /// Which one.
        file: String,
        /// Why.
        source: InvalidProfile,
    },
    /// The strategy has to be the file's name.
    #[error("{file}: strategy is '{strategy}', and must be the file's name")]
    Name {
        /// Which file.
        file: String,
        /// What it says.
        strategy: String,
    },
    /// Larger than any profile.
    #[error("{0} is larger than 256 KiB")]
    TooLarge(PathBuf),
}

impl Catalogue {
    /// What is compiled in.
    ///
    /// # Errors
    /// A file that is no profile; the tests read every one, so this is never seen in a release.
    pub fn built_in() -> Result<Arc<Self>, CatalogueError> {
        // Eighty files are read once a process, not once a vault: tests open hundreds.
        static BUILT_IN: LazyLock<Result<Arc<Catalogue>, (String, InvalidProfile)>> =
            LazyLock::new(|| {
                let mut catalogue = Catalogue::default();
                for (name, text) in FILES {
                    let profile =
                        Profile::read(text).map_err(|error| (format!("{name}.toml"), error))?;
                    catalogue
                        .profiles
                        .insert((*name).to_owned(), Arc::new(profile));
                }
                Ok(Arc::new(catalogue))
            });
        match &*BUILT_IN {
            Ok(catalogue) => Ok(Arc::clone(catalogue)),
            Err((file, source)) => Err(CatalogueError::Profile {
                file: file.clone(),
                source: source.clone(),
            }),
        }
    }

    /// What is compiled in, with the `*.toml` files of a folder added. A file of the same name replaces ours as a whole.
    ///
    /// # Errors
    /// The first file that cannot be read or is no profile, by name: a deployment does not start with half of its
    /// providers.
    pub fn with_folder(folder: &Path) -> Result<Arc<Self>, CatalogueError> {
        let mut profiles = Self::built_in()?.profiles.clone();
        for read in read_folder(folder)? {
            let profile = read?;
            profiles.insert(profile.strategy.clone(), Arc::new(profile));
        }
        Ok(Arc::new(Self { profiles }))
    }

    /// What is wrong with the files of a folder; nothing where each is a profile.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn check_folder(folder: &Path) -> Result<Vec<CatalogueError>, CatalogueError> {
        Ok(read_folder(folder)?
            .into_iter()
            .filter_map(Result::err)
            .collect())
    }

    /// The text of a file that is compiled in, to be copied and changed.
    pub fn built_in_file(strategy: &str) -> Option<&'static str> {
        FILES
            .iter()
            .find(|(name, _)| *name == strategy)
            .map(|(_, text)| *text)
    }

    /// The profile of a strategy.
    pub fn get(&self, strategy: &str) -> Option<&Arc<Profile>> {
        self.profiles.get(strategy)
    }

    /// Every profile, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }
}

/// Reads the `*.toml` files of a folder, each into a profile or into what is wrong with it.
fn read_folder(folder: &Path) -> Result<Vec<Result<Profile, CatalogueError>>, CatalogueError> {
    let unreadable = |source| CatalogueError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.iter().map(|path| read_file(path)).collect())
}

fn read_file(path: &Path) -> Result<Profile, CatalogueError> {
    let unreadable = |source| CatalogueError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE {
        return Err(CatalogueError::TooLarge(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let file = path.display().to_string();
    let profile = Profile::read(&text).map_err(|source| CatalogueError::Profile {
        file: file.clone(),
        source,
    })?;
    if path
        .file_stem()
        .is_none_or(|stem| stem != profile.strategy.as_str())
    {
        return Err(CatalogueError::Name {
            file,
            strategy: profile.strategy,
        });
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_profile_of_its_own_name() {
        for (name, text) in FILES {
            let profile = Profile::read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(profile.strategy, *name);
        }
        assert!(Catalogue::built_in().is_ok());
    }

    #[test]
    fn every_file_says_where_it_is_from_and_what_an_administrator_has_to_do() {
        for (name, text) in FILES {
            let profile = Profile::read(text).unwrap();
            // The strategies that stand for no provider of their own.
            if matches!(*name, "oauth2" | "oidc" | "sandbox") {
                continue;
            }
            for (field, url) in [
                ("documentation", &profile.documentation),
                ("registration", &profile.registration),
            ] {
                assert!(
                    url.starts_with("https://"),
                    "{name}: {field} is no https URL"
                );
            }
            assert!(!profile.notes.is_empty(), "{name}: notes");
            assert!(!profile.api.hosts.is_empty(), "{name}: api.hosts");
        }
    }

    #[test]
    fn a_folder_adds_and_replaces() {
        let folder =
            std::env::temp_dir().join(format!("tokenvault-catalogue-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("intranet.toml");
        std::fs::write(
            &file,
            "strategy = \"intranet\"\ndisplay_name = \"Intranet\"\nclient_authentication = \"client_secret_post\"\n",
        )
        .unwrap();
        let catalogue = Catalogue::with_folder(&folder).unwrap();
        assert_eq!(catalogue.get("intranet").unwrap().display_name, "Intranet");
        assert!(catalogue.get("oidc").is_some());
        std::fs::write(
            &file,
            "strategy = \"other\"\ndisplay_name = \"x\"\nclient_authentication = \"none\"\n",
        )
        .unwrap();
        assert!(matches!(
            Catalogue::with_folder(&folder),
            Err(CatalogueError::Name { .. })
        ));
        std::fs::write(&file, "strategy = 1").unwrap();
        assert!(matches!(
            Catalogue::with_folder(&folder),
            Err(CatalogueError::Profile { .. })
        ));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(
            Catalogue::with_folder(&folder),
            Err(CatalogueError::Read { .. })
        ));
    }
}
