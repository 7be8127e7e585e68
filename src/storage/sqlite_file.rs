//! The file of a SQLite database: who may read it, and which process serves it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The permissions of a folder that the server creates: only its user may enter it.
const FOLDER_MODE: u32 = 0o700;
/// The permissions of a file that the server creates: only its user may read and write it.
const FILE_MODE: u32 = 0o600;

/// Creates the file of a database, and the folders that contain it, for the user of this process only.
///
/// An existing file or folder keeps its permissions. SQLite gives the files that it creates beside the database, such
/// as its log, the permissions of the database.
///
/// # Errors
///
/// Returns an error, which names the path, if a folder or the file cannot be created.
pub fn create(path: &Path) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let created = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
        created.map_err(|error| named(folder, error))?;
    }
    // An existing file must not be opened: closing it would end the locks of this process on it (SQLite, "How To
    // Corrupt An SQLite Database File", section 2.2).
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(named(path, error)),
        _ => Ok(()),
    }
}

/// The lock by which a server shows others that it serves a SQLite file.
///
/// The kernel drops it with the process, however that ends.
#[derive(Debug)]
pub struct ServerLock {
    /// Locked for as long as it is open.
    _file: File,
}

impl ServerLock {
    /// Takes the lock of a database, and logs a warning if another process has it.
    ///
    /// The warning is all that happens: feeds of one process miss the events of the other, but no data is at risk.
    pub fn take_or_warn(path: &Path) -> Option<Self> {
        match Self::take(path) {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err(holder)) => {
                tracing::warn!(
                    file = %path.display(),
                    holder,
                    "another process serves this database too; SQLite needs one process, and PostgreSQL allows several"
                );
                None
            }
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    %error,
                    "could not check whether another process serves this database"
                );
                None
            }
        }
    }

    /// Takes the lock, or returns the id of the process that has it.
    fn take(path: &Path) -> io::Result<Result<Self, String>> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(lock_path(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(Err(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(Self { _file: file }))
    }
}

/// Returns the path of the lock.
///
/// It is that of the database with `-lock` after it, as SQLite names its own files.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn created_file_and_folders_belong_to_their_user_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/parlor.db");
        create(&path).unwrap();
        assert_eq!([mode(&root.path().join("a")), mode(&root.path().join("a/b")), mode(&path)], [0o700, 0o700, 0o600]);
        std::fs::write(&path, "content").unwrap();
        create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "content", "an existing file stays as it is");
    }

    #[test]
    fn error_names_the_path_that_cannot_be_created() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let error = create(&root.path().join("file/parlor.db")).unwrap_err().to_string();
        assert!(error.starts_with(&root.path().join("file").display().to_string()), "{error}");
    }

    #[test]
    fn lock_has_one_holder_until_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("parlor.db");
        let first = ServerLock::take(&path).unwrap().expect("nobody has the lock");
        assert_eq!(ServerLock::take(&path).unwrap().unwrap_err(), std::process::id().to_string());
        assert_eq!(mode(&lock_path(&path)), 0o600);
        drop(first);
        ServerLock::take(&path).unwrap().expect("nobody has the lock any more");
    }
}
