//! The folder that an organisation is exported into.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | the organisation, the schema, and how far the export is |
//! | `tables/TABLE.json` | the ranges of a table's rows, with their checksums |
//! | `versions/PASS.json` | the versions of the chats when a pass began |
//! | `rows/TABLE/…` | the rows of a range, one in each line |
//! | `imported-EPOCH.json` | the ranges that the database with this epoch has |
//!
//! A file is replaced as a whole, so a command that is interrupted leaves the one from before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::cursors::DatabaseEpoch;
use crate::domain::ids::OrganizationId;
use crate::error::Error;
use crate::service::organization_moves::ranges::{ChatVersions, ExportedRange};
use crate::storage::organization_rows::Values;
use crate::storage::organization_tables::OrganizationTable;

/// The version of the format of the folder.
const FORMAT: u32 = 1;
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The description of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub organization: String,
    /// The time of the organisation's creation, in microseconds since 1970.
    pub created_at: i64,
    /// The version of the schema that the rows have.
    pub schema: u64,
    /// The epoch of the database that the rows come from.
    pub epoch: i64,
    /// The number of the last pass.
    pub pass: u64,
    /// True if the last pass was completed.
    pub is_complete: bool,
    /// True if the organisation was frozen during the last pass, so that nothing is missing.
    pub is_final: bool,
    /// True if the old database answers with the new address.
    ///
    /// The new database may serve the organisation then.
    pub is_moved: bool,
}

/// A reason why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file has other content than an export writes.
    #[error("{}: {source}", path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The folder has the export of another organisation or of another database.
    #[error("the folder has {found}, not {expected}; use another folder")]
    Other { found: String, expected: String },
    /// The version of Parlor that wrote the folder has another format.
    #[error("the folder has the format {0}, and this version of Parlor knows {FORMAT}")]
    Format(u32),
}

/// The ranges that a database has, by table and bounds, with their checksums.
pub type Imported = BTreeMap<String, String>;

/// A folder with an exported organisation.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    pub manifest: Manifest,
}

impl Bundle {
    /// Opens the folder of an export.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder has no export, or one of another format.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let manifest: Manifest = read_json(&folder.join("manifest.json"))?;
        match manifest.format {
            FORMAT => Ok(Self { folder: folder.to_owned(), manifest }),
            format => Err(BundleError::Format(format)),
        }
    }

    /// Opens the folder of an export, or begins one.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder has another export or cannot be written.
    pub fn open_or_create(
        folder: &Path,
        organization: &OrganizationId,
        created_at: i64,
        schema: u64,
        epoch: DatabaseEpoch,
    ) -> Result<Self, BundleError> {
        let manifest = Manifest {
            format: FORMAT,
            organization: organization.as_str().to_owned(),
            created_at,
            schema,
            epoch: epoch.0,
            pass: 0,
            is_complete: false,
            is_final: false,
            is_moved: false,
        };
        if !folder.join("manifest.json").exists() {
            let bundle = Self { folder: folder.to_owned(), manifest };
            bundle.save_manifest()?;
            return Ok(bundle);
        }
        let bundle = Self::open(folder)?;
        let describe = |manifest: &Manifest| {
            let Manifest { organization, schema, epoch, .. } = manifest;
            format!("organization {organization} of the database with epoch {epoch} and schema {schema}")
        };
        match describe(&bundle.manifest) == describe(&manifest) {
            true => Ok(bundle),
            false => Err(BundleError::Other { found: describe(&bundle.manifest), expected: describe(&manifest) }),
        }
    }

    /// Returns the organisation.
    pub fn organization(&self) -> Option<OrganizationId> {
        self.manifest.organization.parse().ok()
    }

    /// Begins a pass with the versions of the chats.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn begin_pass(&mut self, versions: &ChatVersions) -> Result<u64, BundleError> {
        let pass = self.manifest.pass + 1;
        write_json(&self.versions_path(pass), versions)?;
        self.manifest =
            Manifest { pass, is_complete: false, is_final: false, is_moved: false, ..self.manifest.clone() };
        self.save_manifest()?;
        Ok(pass)
    }

    /// Completes a pass.
    ///
    /// # Errors
    ///
    /// Returns an error if the manifest cannot be written.
    pub fn complete_pass(&mut self, is_final: bool) -> Result<(), BundleError> {
        self.manifest = Manifest { is_complete: true, is_final, ..self.manifest.clone() };
        self.save_manifest()
    }

    /// Records that the old database serves the organisation no more.
    ///
    /// # Errors
    ///
    /// Returns an error if the manifest cannot be written.
    pub fn complete_move(&mut self) -> Result<(), BundleError> {
        self.manifest.is_moved = true;
        self.save_manifest()
    }

    /// Returns the versions of the chats when a pass began.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn versions(&self, pass: u64) -> Result<ChatVersions, BundleError> {
        read_json(&self.versions_path(pass))
    }

    /// Returns the ranges of a table; before the first pass one range of all keys, which was not read.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn ranges(&self, table: &OrganizationTable) -> Result<Vec<ExportedRange>, BundleError> {
        let path = self.table_path(table);
        if path.exists() { read_json(&path) } else { Ok(vec![ExportedRange::default()]) }
    }

    /// Replaces the ranges of a table.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn save_ranges(&self, table: &OrganizationTable, ranges: &[ExportedRange]) -> Result<(), BundleError> {
        write_json(&self.table_path(table), &ranges)
    }

    /// Writes the rows of a range into a new file, and returns its name.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn write_rows(
        &self,
        table: &OrganizationTable,
        pass: u64,
        number: usize,
        rows: &[Values],
    ) -> Result<String, BundleError> {
        let name = format!("{pass:06}-{number:09}.jsonl");
        let path = self.rows_folder(table).join(&name);
        let mut text = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut text, row)
                .map_err(|source| BundleError::Content { path: path.clone(), source })?;
            text.push(b'\n');
        }
        write(&path, &text)?;
        Ok(name)
    }

    /// Reads the rows of a range.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn read_rows(&self, table: &OrganizationTable, range: &ExportedRange) -> Result<Vec<Values>, BundleError> {
        let Some(name) = &range.file else { return Ok(Vec::new()) };
        let path = self.rows_folder(table).join(name);
        let text = fs::read_to_string(&path).map_err(|source| BundleError::File { path: path.clone(), source })?;
        let rows = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        rows.map_err(|source| BundleError::Content { path, source })
    }

    /// Removes the files of a table's rows that no range has any more.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be removed.
    pub fn remove_unused(&self, table: &OrganizationTable, ranges: &[ExportedRange]) -> Result<(), BundleError> {
        let folder = self.rows_folder(table);
        let used: BTreeSet<_> = ranges.iter().filter_map(|range| range.file.as_deref()).collect();
        let failed = |source| BundleError::File { path: folder.clone(), source };
        if !folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(|name| !used.contains(name)) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Returns the ranges that a database has.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn imported(&self, epoch: DatabaseEpoch) -> Result<Imported, BundleError> {
        let path = self.imported_path(epoch);
        if path.exists() { read_json(&path) } else { Ok(Imported::new()) }
    }

    /// Replaces the list of the ranges that a database has.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn save_imported(&self, epoch: DatabaseEpoch, imported: &Imported) -> Result<(), BundleError> {
        write_json(&self.imported_path(epoch), imported)
    }

    fn save_manifest(&self) -> Result<(), BundleError> {
        write_json(&self.folder.join("manifest.json"), &self.manifest)
    }

    fn versions_path(&self, pass: u64) -> PathBuf {
        self.folder.join("versions").join(format!("{pass}.json"))
    }

    fn table_path(&self, table: &OrganizationTable) -> PathBuf {
        self.folder.join("tables").join(format!("{}.json", table.name))
    }

    fn rows_folder(&self, table: &OrganizationTable) -> PathBuf {
        self.folder.join("rows").join(table.name)
    }

    fn imported_path(&self, epoch: DatabaseEpoch) -> PathBuf {
        self.folder.join(format!("imported-{}.json", epoch.0))
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let text = fs::read(path).map_err(|source| BundleError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| BundleError::Content { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BundleError> {
    let text = serde_json::to_vec(value);
    write(path, &text.map_err(|source| BundleError::Content { path: path.to_owned(), source })?)
}

/// Replaces a file as a whole; other users of the machine cannot read it.
fn write(path: &Path, content: &[u8]) -> Result<(), BundleError> {
    let replace = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    replace().map_err(|source| BundleError::File { path: path.to_owned(), source })
}

/// Converts the error for a command, which prints it.
impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        Self::internal(error)
    }
}
