/* The move of one tenant between two cells, for Spin. How to read and run it: README.md.
 * Each bug below can be seeded with -DBUG=name; infra/model.sh expects Spin to find it.
 * Config: moves made one after the other; writes behind each router; leases that run
 * out while their holder lives on; rounds before the freeze, round 0 not counted. */
#ifndef MOVES
#define MOVES 2
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef BUG
#define BUG 0
#endif
#define GUARD_BEFORE_LOCK     1  /* enter reads the fence, then waits for the lock */
#define ARM_WITHOUT_LOCK      2  /* writers that saw capture off are not waited for */
#define COPY_TWICE            3  /* a zombie's round 0 is applied over later rounds */
#define ROUND_TWICE           4  /* a round does not check the progress that it starts from */
#define PRUNE_BEFORE_COMMIT   5  /* keys are forgotten before the target has their rows */
#define FREEZE_WITHOUT_LOCK   6  /* decided while a writer is still inside */
#define FREEZE_ANY_EPOCH      7  /* a zombie freezes a later owner */
#define SKIP_FREEZE           8  /* the last round is read while the source serves */
#define ANY_MOVE_ID           9  /* statements on a cell do not name their move */
#define ACTIVATE_BEFORE_CAS   10 /* the target serves before the directory decided */
#define DECIDE_WITHOUT_CAS    11 /* a mover decides what was decided already */
#define UNFREEZE_WITHOUT_CAS  12 /* the source serves again without an abort that won */
#define ABORT_KEEPS_EPOCH     13 /* an abort leaves the tenant at e */
#define ABORT_BUMPS_LATE      14 /* ... unless the freeze may have been done, as far as is recorded */
#define ABORT_FORGETS_TARGET  15 /* an abort leaves no tombstone at the target */
#define ACTIVATE_UNARMED      16 /* the way back is not captured from the first write on */
#define UNDO_DURING_PURGE     17 /* an undo is made after the purge was asked for */
#define DISARM_WITHOUT_LOCK   18 /* keys are noted after they were cleared */
#define PROMOTED_SERVES       19 /* a promoted database serves at once */
#define RECONCILE_WITHOUT_CAS 20 /* it asks who owns the tenant, but lets the move go on */
#define RECONCILE_ROWS_ONLY   21 /* a tenant without a fence row is not reconciled */
#define RECONCILED_SHADOW     22 /* an undo starts from a copy that a failover changed */

#define A 0
#define B 1
#define NONE 2                                       /* no cell; no mover */
#define IDLE      0                                  /* a mover without a move */
#define Planned   1                                  /* the phases of directory/move.go */
#define Reserved  2
#define Armed     3
#define Copied    4
#define CaughtUp  5
#define Frozen    6
#define Staged    7
#define Decided   8
#define Activated 9
#define Watching  10
#define Completed 11
#define Aborting  12
#define Aborted   13
#define Undone    14
#define UNDECIDED(p) (p >= Planned && p <= Staged)
#define ENDED(p)     (p == Completed || p == Aborted || p == Undone)

mtype { ABSENT, ACTIVE, FROZEN, INCOMING, MOVED }    /* the states of a fence */
typedef Cell {
  mtype st = ABSENT; byte epoch; byte move;          /* the fence */
  bool capture, suspect;                             /* suspect: promoted and not reconciled, refuses everybody */
  byte rows, dirty;                                  /* one row of each writer; one dirty key of each captured write */
  byte round                                         /* as a target: progress; 0 is nothing copied */
}
typedef Move {
  byte phase; bit src; byte base;                    /* the target is 1-src and will serve base+1 */
  byte lease; byte holder = NONE;                    /* fencing token, and who has it */
  byte undoes; bool complete                         /* wish complete: purge the source */
}
Cell cell[2]; Move mv[MOVES+1]; byte last, watched;  /* the last move made; the move that is Watching */
bit owner; byte epoch = 1;                           /* the directory's record of the tenant */
byte tx[2] = NONE;                                   /* the cell whose shared tenant lock a writer has */
byte crashes, back, acked, top;                      /* acked: rows as acknowledged; top: highest epoch that served */
byte won[MOVES+1];                                   /* 1 decided, 2 aborted */
bool I1, I2, I6, I11, I12, I15;                      /* always false: they name what an assertion found */

#define ACCEPTS(c) (cell[c].st == ACTIVE && !cell[c].suspect)
#define LOCK(c)    (tx[0] != c && tx[1] != c)        /* the exclusive tenant lock is granted */

/* A fence changes. Epochs never go back, and none serves in two cells. */
inline fence(c, to_, e_, id_) {
  assert(e_ >= cell[c].epoch || I1);
  assert(to_ != ACTIVE || e_ > top || (e_ == top && owner == c) || I1);
  if :: to_ == ACTIVE && e_ > top -> top = e_ :: else fi;
  cell[c].move = id_; cell[c].st = to_; cell[c].epoch = e_
}
inline disarm(c) { cell[c].capture = false; cell[c].dirty = 0 }

/* ---- A tenant behind a stale router, which learns the placement whenever it likes. A
 * refused request has no effect and is not shown. The guard is one step because it
 * takes the shared lock first. Each write inserts the writer's row or deletes it. */
#define ADMITS (ACCEPTS(at) && cell[at].epoch == e)
#define FIRST  (cell[at].st == ABSENT && e == 1 && !cell[at].suspect) /* first use: decision 0001 */
#define READY  (n < WRITES && tx[me] == NONE && !seen)
active [2] proctype Writer() {
  bit at, me = _pid; byte e = 1, n; bool note, seen;
end: do
  :: atomic { at != owner || e != epoch -> at = owner; e = epoch; seen = false }
  :: atomic { READY && FIRST -> fence(at, ACTIVE, 1, 0); tx[me] = at }
  :: atomic { READY && ADMITS -> note = cell[at].capture;
       if :: BUG == GUARD_BEFORE_LOCK -> seen = true :: else -> tx[me] = at fi }
  :: atomic { seen && tx[me] == NONE -> tx[me] = at }
  :: atomic { tx[me] != NONE ->                      /* commit and acknowledge */
       assert(cell[tx[me]].st == ACTIVE || I1);
       cell[tx[me]].rows = cell[tx[me]].rows ^ (1 << me); acked = acked ^ (1 << me);
       if :: note -> cell[tx[me]].dirty = cell[tx[me]].dirty | (1 << (me*WRITES+n)) :: else fi;
       n++; note = false; seen = false; tx[me] = NONE }
  od
}

/* ---- A mover. Each option is one statement on a cell or in the directory, or one read.
 * Between any two it may die, or lose its lease and go on as a zombie: that is the
 * first option, taken by itself or by the other mover. `to` is a phase that was
 * reached and is not recorded. A cell cannot know who has the lease: statements
 * there are conditional on move, epoch and state, and change nothing otherwise. */
#define SRC     mv[m].src
#define DST     (1-mv[m].src)
#define S       cell[SRC]
#define D       cell[DST]
#define E       mv[m].base
#define AT(p)   (phase == p && to == IDLE)
#define MINE    (mv[m].lease == lease && mv[m].phase == phase)
#define MY(c)   (c.move == m || BUG == ANY_MOVE_ID)
#define WORK(i) (mv[i].phase != IDLE && !ENDED(mv[i].phase) && (mv[i].phase != Watching || mv[i].complete))
#define FREE(i) (mv[i].holder == NONE || crashes < CRASHES)
#define COPIES  (AT(Armed) || AT(Copied) || AT(Frozen)) /* round 0, a round, the last round */
#define TOUCHED ((keys & ((1<<WRITES)-1) -> 1 : 0) | (keys >> WRITES -> 2 : 0)) /* the rows that the keys name */

inline abandon() { to = IDLE; step = 0; keys = 0; snap = 0; round = 0; final = 0 }
inline forget() { if :: mv[m].holder == me -> mv[m].holder = NONE :: else fi; phase = IDLE; lease = 0; m = 0; abandon() }
inline take(i) {                                     /* LeaseMove */
  if :: mv[i].holder != NONE -> crashes++ :: else fi;
  forget(); m = i; mv[m].lease++; mv[m].holder = me; lease = mv[m].lease; phase = mv[m].phase
}
inline record() {                                    /* Advance */
  if :: MINE -> mv[m].phase = to; phase = to; to = IDLE; step = 0;
        if :: phase == Watching -> watched = m; if :: mv[m].undoes -> mv[mv[m].undoes].phase = Undone :: else fi
           :: phase == Completed -> watched = 0 :: else fi;
        if :: phase == Watching || ENDED(phase) -> forget() :: else fi
     :: else -> forget() fi
}

active [2] proctype Mover() {
  byte m, lease, phase, to, step, keys, snap, round; bit final, me = _pid - 2;
end: do
  :: atomic { WORK(last) && FREE(last) -> take(last) }
  :: atomic { watched != last && WORK(watched) && FREE(watched) -> take(watched) }
  :: atomic { to != IDLE -> record() }

  /* Reserved: the target's fence awaits the tenant. An undo starts from the copy that
   * the undone move left, if it is still that copy. */
  :: atomic { AT(Planned) && !D.suspect ->
       if :: D.st == ABSENT || ((D.st == MOVED || D.st == INCOMING) && D.epoch < E+1) ->
             if :: mv[m].undoes && D.st == MOVED && D.move == mv[m].undoes -> D.round = 1
                :: else -> D.rows = 0; D.round = 0 fi;
             fence(DST, INCOMING, E+1, m)
          :: else fi; to = Reserved }

  /* Armed: under the exclusive lock, so that all who saw capture off have committed. */
  :: atomic { AT(Reserved) && !S.suspect && (LOCK(SRC) || BUG == ARM_WITHOUT_LOCK) ->
       if :: S.st == ABSENT && E == 1 -> fence(SRC, ACTIVE, 1, 0) :: else fi;
       if :: S.st == ACTIVE && S.epoch == E -> S.capture = true; S.move = m :: else fi; to = Armed }

  /* Copied, a round, Staged: read a snapshot; one transaction at the target that also
   * moves the progress on; prune the keys that the snapshot held. */
  :: atomic { AT(Armed) && D.round > 0 -> to = Copied }
  :: atomic { (step == 0 && ((AT(Armed) && D.round == 0) || ((AT(Copied) || AT(Frozen)) && D.round && D.round <= ROUNDS)) || (AT(Frozen) && step == 4)) && !S.suspect ->
       final = (step == 4); snap = S.rows; keys = S.dirty; round = D.round; step = 1 }
  :: atomic { step == 1 && COPIES && BUG == PRUNE_BEFORE_COMMIT -> S.dirty = S.dirty & ~keys; step = 2 }
  :: atomic { step == (BUG == PRUNE_BEFORE_COMMIT -> 2 : 1) && COPIES && !D.suspect ->
       if :: D.st == INCOMING && MY(D) && (D.round == round || BUG == (round -> ROUND_TWICE : COPY_TWICE)) ->
             D.rows = (round -> (D.rows & ~TOUCHED) | (snap & TOUCHED) : snap); D.round = round+1;
             if :: final -> abandon(); to = Staged; assert(!MINE || S.suspect || D.rows == S.rows || I6)
                :: AT(Armed) -> abandon(); to = Copied
                :: else -> step = 3; snap = 0; round = 0 fi
          :: else -> forget() fi }
  :: atomic { step == 3 && !S.suspect -> S.dirty = S.dirty & ~keys; keys = 0; step = 0 }

  /* CaughtUp: the last drain is predicted to be short, or it is not after all. */
  :: atomic { AT(Copied) && step == 0 -> to = CaughtUp }
  :: atomic { AT(CaughtUp) && back < 1 -> back++; to = Copied }

  /* Frozen: recorded first, then done under the exclusive lock, again by each mover that
   * does not know of it. The pause begins. A small tenant is copied in it. One that is
   * refused changes nothing: the tenant is served, and another round may come before it. */
  :: atomic { AT(CaughtUp) || (AT(Armed) && step == 0) -> to = Frozen }
  :: atomic { AT(Frozen) && step == 0 && !S.suspect && (LOCK(SRC) || BUG == FREEZE_WITHOUT_LOCK) ->
       if :: BUG == SKIP_FREEZE -> skip
          :: BUG == FREEZE_ANY_EPOCH && S.st == ACTIVE -> fence(SRC, FROZEN, S.epoch+1, m)
          :: BUG != SKIP_FREEZE && S.st == ACTIVE && S.epoch == E && MY(S) -> fence(SRC, FROZEN, E+1, m)
          :: else fi; step = 4 }

  /* Decided: the one compare-and-set, also by a mover that did not record Staged. */
  :: atomic { AT(Staged) && BUG == ACTIVATE_BEFORE_CAS && D.st == INCOMING && MY(D) -> fence(DST, ACTIVE, E+1, m); D.capture = true }
  :: atomic { AT(Staged) || (phase == Frozen && to == Staged) ->
       if :: (MINE && epoch == E) || BUG == DECIDE_WITHOUT_CAS ->
             assert(!(won[m] & 2) || I12); won[m] = won[m] | 1;
             owner = DST; epoch = E+1; mv[m].phase = Decided; phase = Decided; to = IDLE
          :: else -> forget() fi }

  /* Activated: the target serves, and notes keys for the way back. The pause is over. */
  :: atomic { AT(Decided) && !D.suspect ->
       if :: D.st == INCOMING && D.epoch == E+1 && MY(D) ->
             fence(DST, ACTIVE, E+1, m); D.capture = (BUG != ACTIVATE_UNARMED); D.dirty = 0
          :: else fi; to = Activated }

  /* Watching: the source keeps its copy behind a tombstone. */
  :: atomic { AT(Activated) && !S.suspect ->
       if :: S.st == FROZEN && S.epoch == E+1 && MY(S) -> fence(SRC, MOVED, E+1, m); disarm(SRC) :: else fi; to = Watching }

  /* Completed: the copy is purged, the tombstone stays. */
  :: atomic { AT(Watching) && step == 0 && !S.suspect ->
       if :: S.st == MOVED && S.epoch == E+1 -> S.rows = 0 :: else fi; step = 1 }
  :: atomic { AT(Watching) && step == 1 && !D.suspect && (LOCK(DST) || BUG == DISARM_WITHOUT_LOCK) ->
       if :: D.st == ACTIVE && D.epoch == E+1 && MY(D) -> disarm(DST) :: else fi; to = Completed }

  /* Aborting: a wish, a budget or an error, at any moment before the decision, and by
   * the same compare-and-set: to e+2, above what the target would have served. */
  :: atomic { UNDECIDED(phase) ->
       if :: MINE && epoch == E ->
             assert(!(won[m] & 1) || I12); won[m] = won[m] | 2;
             if :: BUG == ABORT_KEEPS_EPOCH || (BUG == ABORT_BUMPS_LATE && phase < Frozen) -> skip
                :: else -> epoch = E+2 fi;
             mv[m].phase = Aborting; phase = Aborting; abandon()
          :: else -> if :: BUG == UNFREEZE_WITHOUT_CAS -> phase = Aborting; abandon() :: else -> forget() fi
       fi }
  /* The source serves again, at the epoch that the directory gave. */
  :: atomic { AT(Aborting) && step == 0 && !S.suspect && LOCK(SRC) ->
       if :: epoch == E && S.st == FROZEN && BUG == ABORT_KEEPS_EPOCH -> fence(SRC, ACTIVE, E, 0); disarm(SRC)
          :: epoch == E && S.st == ACTIVE && S.epoch == E && BUG -> S.move = 0; disarm(SRC)
          :: epoch != E && S.epoch < E+2 -> fence(SRC, ACTIVE, E+2, 0); disarm(SRC)
          :: else fi; step = 1 }
  /* Aborted: the target forgets the rows and keeps a tombstone, also if it never saw the tenant. */
  :: atomic { AT(Aborting) && step == 1 && !D.suspect ->
       if :: BUG == ABORT_FORGETS_TARGET && D.st == INCOMING && MY(D) ->
             D.st = ABSENT; D.epoch = 0; D.move = 0; D.rows = 0; D.round = 0
          :: BUG != ABORT_FORGETS_TARGET && D.st != ACTIVE && D.st != FROZEN && D.epoch < E+2 ->
             fence(DST, MOVED, E+2, m); D.rows = 0; D.round = 0
          :: else fi; to = Aborted }
  od
}

/* ---- The operator makes the moves, takes one back or ends its watch. */
#define QUIET (last == watched || ENDED(mv[last].phase))
inline plan(i) { last++; mv[last].src = owner; mv[last].base = epoch; mv[last].phase = Planned; mv[last].undoes = i }
active proctype Operator() {
end: do
  :: atomic { QUIET && last < MOVES && (watched == 0 || !mv[watched].complete || BUG == UNDO_DURING_PURGE) -> plan(watched) }
  :: atomic { QUIET && watched != 0 && !mv[watched].complete -> mv[watched].complete = true }
  od
}

#ifdef FAILOVER
/* ---- The standby of A has some older state of A and is promoted at any time while A is
 * the source, or was. What A had acknowledged as the owner and the standby lacks is
 * the database's loss, not the move's. The cell's agent then asks the directory,
 * which is a compare-and-set too: it aborts a move that is not decided. */
active proctype Standby() {
  mtype st; byte ep, id, rows, dirty, round; bool capture;
  atomic { st = cell[A].st; ep = cell[A].epoch; id = cell[A].move; capture = cell[A].capture;
           rows = cell[A].rows; dirty = cell[A].dirty; round = cell[A].round }
end: atomic { mv[last].src == A ->
    cell[A].st = st; cell[A].epoch = ep; cell[A].move = id; cell[A].capture = capture;
    cell[A].rows = rows; cell[A].dirty = dirty; cell[A].round = round;
    if :: tx[0] == A -> tx[0] = NONE :: else fi; if :: tx[1] == A -> tx[1] = NONE :: else fi;
    if :: BUG == PROMOTED_SERVES -> if :: owner == A -> acked = rows :: else fi; goto done
       :: else -> cell[A].suspect = true fi;
    st = 0; id = 0; capture = 0; rows = 0; dirty = 0; round = 0 }
  atomic {
    if :: UNDECIDED(mv[last].phase) && BUG != RECONCILE_WITHOUT_CAS ->
          mv[last].phase = Aborting; epoch = mv[last].base+2; won[last] = won[last] | 2
       :: else fi; id = owner; ep = epoch }
  atomic {
    if :: BUG == RECONCILE_ROWS_ONLY && cell[A].st == ABSENT -> skip
       :: else -> if :: id == A -> fence(A, ACTIVE, ep, 0); acked = cell[A].rows
                     :: id == B && BUG == RECONCILED_SHADOW -> fence(A, MOVED, ep, 1)
                     :: else -> fence(A, MOVED, ep, 0); cell[A].rows = 0 fi fi;
    disarm(A); cell[A].suspect = false }
done: skip
}
#endif

/* ---- The invariants, in every state and when nothing is left to do. No run is infinite
 * (infra/model.sh shows that there is no cycle), so "decided leads to active at the
 * target, aborted to active at the source" is judged at the end of every run. */
#define OTHER (1-owner)
active proctype Judge() {
end: if
  :: atomic { ACCEPTS(A) && ACCEPTS(B) -> assert(I1) }
  :: atomic { ACCEPTS(owner) && cell[owner].rows != acked -> assert(I2) }
  :: atomic { ACCEPTS(OTHER) || (ACCEPTS(owner) && cell[owner].epoch > epoch) -> assert(I15) }
  :: atomic { timeout ->
       assert((ENDED(mv[last].phase) && watched == 0) || I12);
       assert((ACCEPTS(owner) && cell[owner].epoch == epoch) || I12);
       assert(cell[OTHER].st == MOVED || cell[OTHER].st == ABSENT || I11);
       assert((cell[OTHER].rows == 0 && !cell[owner].capture && cell[owner].dirty == 0) || I11) }
  fi
}
