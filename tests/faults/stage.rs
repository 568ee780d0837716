//! Runs tasks by hand, one at a time, in ticks of a millisecond of paused time.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    points::{apart, catch},
    waker::{Flag, waker},
};

pub type Play<T> = Pin<Box<dyn Future<Output = T>>>;

thread_local! {
    static NOW: Cell<u32> = const { Cell::new(0) };
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static DUE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// In ticks.
pub fn now() -> u32 {
    NOW.get()
}

/// The task that runs.
pub fn current() -> u32 {
    CURRENT.get() as u32
}

/// Has the task that runs polled again at the next tick, without a waker: what takes time inside the service is not what is
/// tested.
pub fn next_tick() {
    DUE.with_borrow_mut(|due| due.push(CURRENT.get()));
}

/// A moment at which a caller may leave.
pub async fn pause() {
    let mut paused = false;
    poll_fn(|_| match std::mem::replace(&mut paused, true) {
        true => Poll::Ready(()),
        false => {
            next_tick();
            Poll::Pending
        }
    })
    .await;
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<T> {
    Playing,
    Done(T),
    /// It panicked at this point.
    Victim(&'static str),
    /// Its caller left.
    Left,
}

struct Task<T> {
    play: Option<Play<T>>,
    woken: Flag,
    fate: Fate<T>,
}

pub struct Stage<T> {
    tasks: Vec<Task<T>>,
    leave_at: Option<usize>,
    /// Moments so far at which a caller could have left.
    pub moments: usize,
}

impl<T: Copy> Stage<T> {
    pub fn new(leave_at: Option<usize>) -> Self {
        NOW.set(0);
        DUE.take();
        Self {
            tasks: Vec::new(),
            leave_at,
            moments: 0,
        }
    }

    pub fn enter(&mut self, play: Play<T>) {
        self.tasks.push(Task {
            play: Some(play),
            woken: Flag::new(AtomicBool::new(true)),
            fate: Fate::Playing,
        });
        self.may_leave(self.tasks.len() - 1);
    }

    pub fn fates(&self) -> Vec<Fate<T>> {
        self.tasks.iter().map(|task| task.fate).collect()
    }

    /// Lets a millisecond pass and everybody go on who can.
    pub async fn tick(&mut self) {
        self.run();
        tokio::time::advance(Duration::from_millis(1)).await;
        // Whoever looks after the queue has its turn.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        NOW.set(NOW.get() + 1);
        for nth in DUE.take() {
            self.tasks[nth].woken.store(true, SeqCst);
        }
        self.run();
    }

    fn run(&mut self) {
        while let Some(nth) = self.next_woken() {
            self.poll(nth);
        }
    }

    fn next_woken(&self) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| task.play.is_some() && task.woken.load(SeqCst))
    }

    fn poll(&mut self, nth: usize) {
        CURRENT.set(nth);
        let task = &mut self.tasks[nth];
        let Some(play) = &mut task.play else { return };
        task.woken.store(false, SeqCst);
        let waker = apart(|| waker(&task.woken));
        let polled = catch(|| play.as_mut().poll(&mut Context::from_waker(&waker)));
        apart(|| drop(waker));
        match polled {
            Ok(Poll::Pending) => self.may_leave(nth),
            Ok(Poll::Ready(done)) => self.exit(nth, Fate::Done(done)),
            Err(point) => self.exit(nth, Fate::Victim(point)),
        }
    }

    fn may_leave(&mut self, nth: usize) {
        if self.leave_at == Some(self.moments) {
            self.exit(nth, Fate::Left);
        }
        self.moments += 1;
    }

    /// Drops what the task holds, as an executor does whatever became of it.
    pub fn exit(&mut self, nth: usize, fate: Fate<T>) {
        let task = &mut self.tasks[nth];
        let play = task.play.take();
        if play.is_some() {
            task.fate = fate;
        }
        if let (Err(point), Fate::Left) = (catch(|| drop(play)), fate) {
            self.tasks[nth].fate = Fate::Victim(point);
        }
    }

    pub fn exit_all(&mut self) {
        for nth in 0..self.tasks.len() {
            self.exit(nth, Fate::Left);
        }
    }
}
