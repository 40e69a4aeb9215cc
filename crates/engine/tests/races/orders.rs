//! Goes through the orders in which threads can run, one execution for each.
//!
//! A thread can be stopped at every lock, atomic and wait. An order in which a thread is stopped
//! though it could go on is a *preemption*. All orders with no more than a given number of them
//! are tried; beyond that, random orders with any number of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, Runner};

/// Something that was chosen, of how many possibilities.
#[derive(Clone, Copy, Debug)]
struct Choice {
    taken: usize,
    of: usize,
}

#[derive(Debug, Default)]
struct Progress {
    executions: AtomicU64,
    steps_max: AtomicU64,
    is_done: Mutex<bool>,
}

/// Chooses depth first, with a bound on preemptions.
#[derive(Debug)]
struct Bounded {
    preemptions_max: usize,
    executions_max: u64,
    choices: Vec<Choice>,
    step: usize,
    preemptions: usize,
    progress: Arc<Progress>,
}

impl Bounded {
    /// Go to the next order; false where all were tried.
    fn advance(&mut self) -> bool {
        while let Some(last) = self.choices.last_mut() {
            if last.taken + 1 < last.of {
                last.taken += 1;
                return true;
            }
            self.choices.pop();
        }
        false
    }

    fn choose(&mut self, of: usize) -> usize {
        let step = self.step;
        self.step += 1;
        if let Some(choice) = self.choices.get(step) {
            assert_eq!(choice.of, of, "the scenario isn't the same every time");
            return choice.taken;
        }
        self.choices.push(Choice { taken: 0, of });
        0
    }
}

impl Scheduler for Bounded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let tried = self.progress.executions.load(Ordering::Relaxed);
        if tried > 0 && !self.advance() {
            *self.progress.is_done.lock().unwrap() = true;
            return None;
        }
        if tried == self.executions_max {
            return None;
        }
        self.progress.executions.fetch_add(1, Ordering::Relaxed);
        self.step = 0;
        self.preemptions = 0;
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let ids = || runnable.iter().map(|task| task.id());
        let going_on = current.filter(|current| ids().any(|id| id == *current));
        let others: Vec<TaskId> = ids().filter(|id| Some(*id) != going_on).collect();
        let chosen = match going_on {
            // Who waits for others by looking again and again lets them run.
            Some(_) if is_yielding && !others.is_empty() => others[self.choose(others.len())],
            None => others[self.choose(others.len())],
            Some(current) if self.preemptions >= self.preemptions_max => current,
            Some(current) => match self.choose(1 + others.len()) {
                0 => current,
                other => {
                    self.preemptions += 1;
                    others[other - 1]
                }
            },
        };
        let steps = &self.progress.steps_max;
        steps.fetch_max(self.step as u64, Ordering::Relaxed);
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        0
    }
}

/// Random orders in a usual run, of each kind.
const RANDOM_USUAL: usize = 50;
/// Random orders in a campaign, of each kind.
const RANDOM_CAMPAIGN: usize = 10_000;
/// At how many moments threads change places in those random orders that change them seldom.
const CHANGES_MAX: usize = 8;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Preemptions in a usual run.
    pub usual: usize,
    /// Preemptions in a campaign.
    pub campaign: usize,
}

/// Run a scenario in all orders; a panic in one of them fails, and names the order.
pub fn in_all_orders(name: &str, depth: Depth, scenario: impl Fn() + Send + Sync + 'static) {
    let (preemptions_max, random) = if std::env::var_os("PERDURE_RACES").is_some() {
        let times = number_in("PERDURE_CAMPAIGN");
        (depth.campaign + times - 1, RANDOM_CAMPAIGN * times)
    } else {
        (depth.usual, RANDOM_USUAL)
    };
    let progress = Arc::new(Progress::default());
    let scheduler = Bounded {
        preemptions_max,
        executions_max: u64::MAX,
        choices: Vec::new(),
        step: 0,
        preemptions: 0,
        progress: Arc::clone(&progress),
    };
    let scenario = Arc::new(scenario);
    run(scheduler, &scenario);
    assert!(*progress.is_done.lock().unwrap(), "not all orders");
    let seed = number_in("PERDURE_SEED") as u64;
    run(RandomScheduler::new_from_seed(seed, random), &scenario);
    run(
        PctScheduler::new_from_seed(seed, CHANGES_MAX, random),
        &scenario,
    );
    println!(
        "{name}: {} orders with up to {preemptions_max} preemptions, {} choices in the longest, and \
         {} random orders",
        progress.executions.load(Ordering::Relaxed),
        progress.steps_max.load(Ordering::Relaxed),
        2 * random,
    );
}

fn run(scheduler: impl Scheduler + 'static, scenario: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 16;
    let scenario = Arc::clone(scenario);
    Runner::new(scheduler, config).run(move || scenario());
}

/// The number in an environment variable; without, one.
fn number_in(variable: &str) -> usize {
    let given = std::env::var(variable).unwrap_or_default();
    given.parse().unwrap_or(1)
}
