//! Who gets the next item, and what an idle worker may take from a busy one.
//!
//! For workers with a queue of their own each. A *load* is the number of items a worker has and has not
//! finished: the one that runs, if any, and those that wait behind it. Both functions are pure; on equal loads
//! the lowest index wins, so that an answer can be predicted.

/// The worker with the fewest items, or `None` if there is no worker.
///
/// # Examples
///
/// ```
/// use raddle_core::sched::balance::least_loaded;
///
/// assert_eq!(least_loaded([2, 0, 1, 0]), Some(1));
/// assert_eq!(least_loaded([]), None);
/// ```
pub fn least_loaded(loads: impl IntoIterator<Item = usize>) -> Option<usize> {
    loads.into_iter().enumerate().min_by_key(|&(_, load)| load).map(|(worker, _)| worker)
}

/// From whom the worker `idle` takes, and how many: half of what makes the richest worker richer, from the back
/// of its queue.
///
/// For a worker with no items that is half of the richest worker's, rounded down. The running item is never
/// among them, as half of one is none. `None` when nobody has two items more than `idle`, or when there is no
/// such worker.
///
/// # Examples
///
/// ```
/// use raddle_core::sched::balance::steal_plan;
///
/// assert_eq!(steal_plan(&[0, 7, 2], 0), Some((1, 3)));
/// assert_eq!(steal_plan(&[0, 1], 0), None, "the running item stays where it is");
/// ```
pub fn steal_plan(loads: &[usize], idle: usize) -> Option<(usize, usize)> {
    let own = *loads.get(idle)?;
    let (victim, richest) = loads.iter().copied().enumerate().rev().max_by_key(|&(_, load)| load)?;
    let count = richest.saturating_sub(own) / 2;
    (count > 0).then_some((victim, count))
}
