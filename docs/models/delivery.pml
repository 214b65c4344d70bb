/* The transfer of one delivery: claim, renew, fence, complete, end, take over, clean up. For `spin`
 * (tests/unit/test_protocol_model.py; docs/architecture.md has a table of step and rule).
 *
 * Two workers, ATTEMPTS attempts. At most FAULTS disturbances, each at any step: a worker dies (another
 * starts in its place), a lease runs out although its worker lives, the target or the source fails, an
 * answer is lost, another object than was sent appears. Besides, once and at any step, the delivery
 * expires or is cancelled, or meets what ends it; requests to complete are carried out late, also after
 * their worker's death; the lease of a dead worker runs out; an abort at the end of an attempt fails.
 *
 * Holds, in every state: at most one terminal response; DONE is told with the recorded object there; an
 * object that was told neither changes nor vanishes. At rest, which every run comes to: the delivery
 * has ended, its object is there (DONE) or none is (ERROR), no upload is open. With NO_EXPIRY and more
 * attempts than disturbances it ends by its own strength.
 *
 * More than is promised is allowed for: a store that goes on with a completion which it has begun,
 * whatever is aborted (GOING; app/delivery/object_store.py promises STRICT), and workers that make other
 * bytes of the same files (another CPU; SAME_BYTES is the rule). With more than two attempts not both at
 * once: a predecessor's object could take the place of what is told. Nor is a store that keeps no
 * conditions (NO_CONDITIONS) safe from workers whose bytes differ.
 *
 * Time is in three guards. A worker that lost its lease by its delivery's end knows it when the sweep
 * begins, two leases later, and opens nothing more. What a worker may let appear has done so, or never
 * will, when the time that was noted for it is over: it is not stopped in between for longer. An opening
 * that was not answered is carried out before the sweep begins, whatever was decided by then.
 * Not here: other deliveries of the same key, aborts that are refused for good (a fence is lost then);
 * answers of PostgreSQL that are lost (the same is asked again: as if asked later; of a claim: as if the
 * worker died). */
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#define UPLOADS (ATTEMPTS + FAULTS + 1)  /* that can be opened at all */
#ifdef SAME_BYTES
#define ETAG 1
#else
#define ETAG me                          /* of what this worker's machine makes of the files */
#endif
#define WRONG 9

mtype:state = { READY, TRANSFERRING, DONE, ERROR };
mtype:upload = { FREE, LOST /* its opening was not answered, and comes later */, OPEN,
                 SENT /* asked to complete */, GOING /* begun */, MADE, GONE };

/* PostgreSQL: the delivery's row, the lock on its object, and what its client was told. */
mtype:state state = READY;
byte attempt, owner, upload, completing, result, lock, told;
bool lapsed, undecided;                  /* lease_until is over; completing_until is not */
/* The object store: one key. An upload's request, its condition, what it would make. */
mtype:upload up[UPLOADS + 1] = FREE;
byte opened, lost, flying, cond[UPLOADS + 1], etag[UPLOADS + 1], object;
/* The world: what is left of disturbances; who is to die; what each worker is in the middle of. */
byte faults = FAULTS, dies, works[3];
bool opens[3], asks[3], late;

#define ENDED (state == DONE || state == ERROR)
#ifdef NO_ATTEMPT                        /* defect: a compare without the attempt */
#define SEEN (state == TRANSFERRING)
#define HELD (owner == me && !ENDED)
#else
#define SEEN (state == TRANSFERRING && attempt == mine)       /* transactions.sql: advance */
#define HELD (owner == me && attempt == mine && !ENDED)       /* leases.sql: holds, renew, record_… */
#endif
/* lease.py: Lease.safe_to_complete: by its own clock, which knows of no end before the lease is over. */
#define SAFE (attempt == mine && !late && !(owner == me && lapsed))
#ifdef OVERLOOKED                        /* defect: a later attempt counts only until it is done */
#define LATER(a) (attempt != a && !ENDED)
#else
#define LATER(a) (attempt != a && state != ERROR)
#endif
#ifdef NO_CONDITIONS
#define MET(c) true
#else
#define MET(c) (object == c)             /* If-None-Match: *, or If-Match */
#endif

inline tell() { told++; assert(told == 1) }
inline put(e) { assert(state != DONE || (e) == result); object = e }
inline fail() { state = ERROR; owner = 0; lapsed = false; tell() }             /* fail.py: fail */
inline abort(u) {                                                  /* object_store.py: abort */
  if
  :: up[u] == OPEN -> up[u] = GONE
  :: up[u] == SENT -> up[u] = GONE; flying--
  :: else
  fi
}
inline abort_orphans() {        /* uploads.py: abort_orphans; as of the list, so it is one step */
  i = 1;
  do :: i <= opened -> abort(i); i++ :: else -> break od;
  i = 0
}
inline remove(of_attempt, who) {                                    /* remove.py: remove */
  if
  :: object == 0
  :: else ->
#ifndef NO_LOCK                          /* defect: completions don't wait for a removal */
     atomic { lock == 0 -> lock = who };
#endif
     seen = object;
     if
     :: seen == 0 || (state == DONE && result == seen) || LATER(of_attempt)    /* relied_on */
     :: else -> d_step { if :: MET(seen) -> put(0) :: else fi }
     fi;
     d_step { lock = 0; seen = 0 }
  fi
}
inline lose(u) { if :: up[u] == OPEN -> up[u] = LOST; lost++ :: else fi }
inline idle() {
  works[me] = 0; opens[me] = false; asks[me] = false; mine = 0; last = 0; before = 0; u = 0;
  seen = 0; again = false; unknown = false; retry = false; hopeless = false
}

proctype Worker(byte me) {
  byte mine, last, before, u, seen, i;   /* the attempt, and what the row said as it was claimed */
  bool again, unknown, retry, hopeless;
end:
  do
  :: {
    d_step {                             /* leases.sql: claim. (Worker 1 is who is first.) */
      !ENDED && (owner == 0 || lapsed) && attempt < ATTEMPTS && (me == 1 || attempt) ->
      state = TRANSFERRING; attempt++; owner = me; lapsed = false;
      mine = attempt; last = upload; before = completing; works[me] = mine; opens[me] = true };
#ifndef NO_FENCE                         /* defect: the predecessor's upload stays open */
    d_step { abort(last); last = 0 };    /* transfer.py: _fence */
    if :: mine > 1 -> d_step { abort_orphans() } :: else fi;
#endif
    if                                   /* transfer.py: _completed_before */
    :: before && object == before -> seen = before; goto finish
    :: else -> before = 0
    fi;
begin:                                   /* transfer.py: _begin */
    atomic { opened++; assert(opened <= UPLOADS); u = opened; up[u] = OPEN };
    if
    :: true
#ifdef BEGIN_AGAIN                       /* defect: it opens another one in the same attempt */
    :: d_step { faults -> faults--; lose(u); u = 0 }; d_step { abort_orphans() }; goto begin
#else
    :: d_step { faults -> faults--; lose(u); u = 0; retry = true }; goto settle   /* no answer */
#endif
    fi;
    if                                   /* leases.sql: record_upload */
    :: d_step { HELD -> upload = u; opens[me] = false }
    :: !HELD -> goto give_up
    fi;
    do                                   /* sinks/transfer.py: stream, beside slots.py: _renew */
    :: d_step { HELD && lapsed -> lapsed = false }
    :: !HELD -> goto give_up
    :: d_step { faults -> faults--; retry = true }; goto give_up
    :: hopeless = true; goto give_up
    :: break
    od;
complete:                                /* completion.py: CompletionGuard.allowed */
    if :: SAFE :: !SAFE -> retry = true; goto give_up fi;
#ifndef NO_QUESTION                      /* defect: the database is not asked */
    if                                   /* leases.sql: record_completion, under lock_object */
    :: d_step { lock == 0 && HELD ->
         completing = ETAG; undecided = true; lapsed = false; asks[me] = true }
    :: lock == 0 && !HELD -> goto give_up
    fi;
#endif
look:                                    /* sinks/stores/s3/completion.py: S3Completion.run */
    seen = object;
    if
    :: seen == ETAG ->                   /* _made_before */
#ifdef KEPT_UPLOAD                       /* defect: the upload is left where an answer was lost */
       if :: !again -> d_step { abort(u) } :: again fi;
#else
       d_step { abort(u) };
#endif
       goto finish
    :: else
    fi;
    d_step {
      if
      :: up[u] == OPEN -> up[u] = SENT; flying++; cond[u] = seen; etag[u] = ETAG
      :: up[u] == SENT                   /* an earlier request of it is still on its way */
      :: else -> unknown = true          /* NoSuchUpload */
      fi; seen = 0 };
    if
    :: unknown || (up[u] != SENT && up[u] != GOING)
    :: d_step { faults -> faults--; again = true }; goto complete        /* no answer */
    :: !HELD -> goto give_up             /* slots.py: _renew: a clear answer */
    fi;
    if :: up[u] == OPEN -> goto look :: else fi;                         /* 412 */
    seen = object;
    if
    :: seen == ETAG -> goto finish
    :: seen != ETAG && (unknown || up[u] == GONE) ->                     /* UploadLostError */
       unknown = false; again = false; seen = 0;
       if                                /* transfer.py: deliver */
#ifdef BLIND_START                       /* defect: it begins again whatever its lease */
       :: opens[me] = true
#else
       :: atomic { SAFE -> opens[me] = true }
       :: !SAFE -> retry = true; goto give_up
#endif
       fi;
       d_step { abort(u); u = 0; asks[me] = false }; goto begin
    :: else ->                           /* WrongObjectError; transfer.py: _remove */
       d_step { abort(u) }; remove(mine, me); retry = true; goto settle
    fi;
finish:                                  /* transfer.py: finish, _end */
    atomic {
      if
      :: SEEN -> assert(object == seen); state = DONE; result = seen; completing = 0;
         undecided = false; owner = 0; lapsed = false; tell()
      :: else
      fi };
    goto over;
give_up:                                 /* transfer.py: _archive */
    if :: d_step { abort(u) } :: true fi;
settle:                                  /* settle.py: settle */
    if
    :: d_step { retry && HELD -> owner = 0; lapsed = false }             /* leases.sql: release */
    :: d_step { hopeless && SEEN -> fail() }
    :: else
    fi;
over:
    atomic { idle() }
  } unless { d_step { dies == me ->      /* nothing more of it happens; its transaction is undone */
      if :: lock == me -> lock = 0 :: else fi; i = 0; dies = 0; idle() } }
  od
}

proctype Request(byte u) {               /* the store carries out what it was asked, at its leisure */
end:
  do
  :: d_step { up[u] == LOST -> up[u] = OPEN; lost-- }
  :: d_step { up[u] == SENT && MET(cond[u]) -> up[u] = MADE; flying--; put(etag[u]) }
  :: d_step { up[u] == SENT && !MET(cond[u]) -> up[u] = OPEN; flying-- }
  :: d_step { up[u] == SENT && MET(cond[u]) && faults ->
       faults--; up[u] = MADE; flying--; put(WRONG) }
#ifndef STRICT
  :: d_step { up[u] == SENT -> up[u] = GOING }
  :: d_step { up[u] == GOING && MET(cond[u]) -> up[u] = MADE; flying--; put(etag[u]) }
  :: d_step { up[u] == GOING && !MET(cond[u]) -> up[u] = GONE; flying-- }
#endif
  od
}

active proctype World() {
end:
  do
  :: d_step { owner && !lapsed && works[owner] != attempt -> lapsed = true }
  :: d_step { owner && !lapsed && works[owner] == attempt && faults -> faults--; lapsed = true }
  :: d_step { faults && !dies -> faults--; dies = 1 }
  :: d_step { faults && !dies -> faults--; dies = 2 }
#ifndef NO_EXPIRY
  :: d_step { !ENDED -> fail() }         /* expire.py: expire; intervene.py: cancel */
#endif
  :: d_step { ENDED && undecided && !flying && !asks[1] && !asks[2] -> undecided = false }
  od
}

active proctype Sweep() {                /* sweep.py: look. transactions.sql: unswept */
  byte seen, i;
  bool decided;
end:
  d_step { ENDED && (state == ERROR || attempt > 1) && !opens[1] && !opens[2] && !lost -> late = true };
  do
  :: decided = !undecided;
     d_step { if :: state == ERROR -> abort(upload) :: else fi };        /* uploads.py: abort_last */
     if :: state == ERROR && completing && upload -> remove(attempt, 3) :: else fi;
     d_step { abort_orphans() };
#ifdef ONE_LOOK                          /* defect: it does not look again */
     decided = true;
#endif
#ifdef LATE_CLOCK                        /* defect: it asks for the time only when it has looked */
     decided = !undecided;
#endif
     if :: decided -> break :: !decided -> !undecided fi                 /* transactions.sql: swept */
  od
}

active proctype Rest() {
  byte i;
  timeout ->
  assert(ENDED && told == 1 && lock == 0 && !undecided);
  assert(object == (state == DONE -> result : 0));
  for (i : 1 .. UPLOADS) { assert(up[i] == FREE || up[i] == MADE || up[i] == GONE) }
}

init {
  byte i;
  atomic { run Worker(1); run Worker(2); for (i : 1 .. UPLOADS) { run Request(i) } }
}
