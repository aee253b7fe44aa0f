//! Lines of the program's source, for excerpts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::session::Session;

/// A file is read up to so many bytes; generated files can be endless.
const MOST_BYTES: u64 = 8 << 20;

/// These lines of a file, counted from 1, as far as it is there. What it names is taken from the directory that the program was started in.
pub(crate) fn lines(session: &Session, file: &str, wanted: impl Iterator<Item = u32>) -> BTreeMap<u32, String> {
    let wanted: BTreeSet<u32> = wanted.collect();
    let mut found = BTreeMap::new();
    let last = wanted.last().copied().unwrap_or(0);
    let path = Path::new(&session.directory).join(file);
    // `<string>` and the like are no files, and a pipe that has such a name must not make us wait.
    let is_file = !file.is_empty() && path.metadata().is_ok_and(|metadata| metadata.is_file());
    let Some(opened) = is_file.then(|| File::open(&path).ok()).flatten() else { return found };
    let mut reader = BufReader::new(Read::take(opened, MOST_BYTES));
    let mut number = 0;
    let mut bytes = Vec::new();
    while number < last {
        bytes.clear();
        if !matches!(reader.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            break;
        }
        number += 1;
        if wanted.contains(&number) {
            found.insert(number, String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
    }
    found
}
