//! The rows of asyncio's tasks.

use raddle_probe::{Look, clean, is_library};

use crate::row::{Subject, place_and_function};

/// A task of asyncio that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    /// The task that it awaits.
    pub(crate) awaits: String,
    pub(crate) place: String,
    /// Whether it is in a circle of tasks that await each other.
    pub(crate) is_stuck: bool,
}

/// The rows, in the order of the loop.
pub(crate) fn tasks(look: &Look, filter: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for process in &look.processes {
        for (index, task) in process.tasks.iter().enumerate() {
            let alike = process.tasks[..index].iter().filter(|other| other.name == task.name).count();
            let own = task.frames.iter().find(|place| !is_library(&place.file)).or_else(|| task.frames.first());
            rows.push(Row {
                subject: Subject::Task(process.pid, task.name.clone(), alike),
                name: clean(&task.name),
                state: task.state,
                awaits: task
                    .awaits
                    .and_then(|at| process.tasks.get(at))
                    .map_or(String::new(), |task| clean(&task.name)),
                place: own.map_or(String::new(), |place| place_and_function(process, place)),
                is_stuck: process.task_deadlocks.iter().any(|circle| circle.contains(&index)),
            });
        }
    }
    let wanted = filter.to_lowercase();
    rows.retain(|row| {
        [&row.name, row.state, &row.awaits, &row.place].iter().any(|text| text.to_lowercase().contains(&wanted))
    });
    rows
}

#[cfg(test)]
mod tests {
    use raddle_probe::AsyncTask;

    use super::*;
    use crate::history::tests::{look, process};

    fn task(name: &str, awaits: Option<usize>) -> AsyncTask {
        let mut task = AsyncTask::default();
        (task.name, task.state, task.awaits) = (name.into(), "waiting", awaits);
        task
    }

    #[test]
    fn tasks_that_await_each_other_are_marked_and_names_may_be_alike() {
        let mut one = process(9, vec![]);
        one.tasks = vec![task("a", Some(1)), task("b", Some(0)), task("a", None)];
        one.task_deadlocks = vec![vec![0, 1]];
        let rows = tasks(&look(vec![one.clone()]), "");
        assert_eq!(rows.iter().map(|row| row.is_stuck).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(rows[0].awaits, "b");
        assert_ne!(rows[0].subject, rows[2].subject);
        assert_eq!(tasks(&look(vec![one]), "B").len(), 2);
    }
}
