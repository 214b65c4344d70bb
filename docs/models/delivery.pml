/* The transfer of one delivery: claim, renew, fence, go on, complete, end, take over, clean up. For `spin`
 * (tests/model/test_delivery.py; docs/architecture.md has a table of step and rule).
 *
 * Two workers, ATTEMPTS attempts. At most FAULTS disturbances, each at any step: a worker dies (another
 * starts in its place), a lease runs out although its worker lives, the target or the source fails, an
 * answer is lost (its part may land again later), another object than was sent appears. Besides, once
 * and at any step, the delivery expires or is cancelled, or meets what ends it; parts, and requests to
 * complete, are carried out late, also after their worker's death; the lease of a dead worker runs out;
 * an abort at the end of an attempt fails.
 *
 * An archive is two parts: what was saved in a checkpoint, and the rest. A successor sends the rest to
 * its predecessor's upload, or aborts that and begins again, whatever it finds. What ends the delivery
 * while a completion may be under way is noted, and the next claim looks what became of it; when the time
 * for that is over, it ends all the same.
 *
 * Holds, in every state: at most one terminal response; DONE is told with the recorded object there; an
 * object that was told neither changes nor vanishes; what appears has the parts that were named, but for
 * a disturbance, and nothing once its client was told that there is none (STRICT). At rest, which every run comes to: the delivery
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
#define MAKES(w) 1
#else
#define MAKES(w) (w)                     /* of parts: what a worker's machine makes of the files */
#endif
#define MAKER MAKES(me)
#define OF(head, rest) ((head) * 3 + (rest))        /* ETag of an archive: that of its parts */
#define ETAG OF(first[u], MAKER)
#define WRONG 9

mtype:state = { READY, TRANSFERRING, DONE, ERROR };
mtype:upload = { FREE, LOST /* its opening was not answered, and comes later */, OPEN,
                 GOING /* its completion has begun */, MADE, GONE };

/* PostgreSQL: the delivery's row, the lock on its object, and what its client was told. */
mtype:state state = READY;
byte attempt, owner, upload, saved, completing, noted_by, result, lock, told;
bool lapsed, undecided, ends;            /* lease_until is over; completing_until is not; `ending` */
/* The object store: one key. Who has made the parts of each upload, and whose request has completed it. */
mtype:upload up[UPLOADS + 1] = FREE;
byte opened, lost, flying, first[UPLOADS + 1], rest[UPLOADS + 1], by[UPLOADS + 1], object;
/* A worker's request to complete an upload: its condition, and what its list of parts makes. */
#define ASK(u, w) (2 * (u) + (w) - 1)
bool sent[2 * UPLOADS + 2];
byte cond[2 * UPLOADS + 2], named[2 * UPLOADS + 2];
byte part[3];                            /* the upload to which a worker's part is on its way */
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
#ifdef STRICT
#define KNOWN (state != ERROR)           /* no client was told yet that there is no archive */
#else
#define KNOWN true
#endif
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
#ifdef NO_NAMES                          /* defect: a completion takes the parts that are there */
#define SAME true
#else
#define SAME (named[q] == OF(first[u], rest[u]))    /* CompleteMultipartUpload names them: InvalidPart */
#endif

inline tell() { told++; assert(told == 1) }
inline put(e) { assert(state != DONE || (e) == result); assert(KNOWN || (e) == 0); object = e }
inline fail() {                                                    /* fail.py: fail */
  state = ERROR; owner = 0; lapsed = false; saved = 0; ends = false; tell()
}
inline fail_or_note(lets_go) {                                     /* transactions.sql: note_ending */
  if
#ifndef UNHEEDED                         /* defect: it ends, whatever is under way */
  :: undecided ->
     ends = true;
     if :: lets_go || noted_by != attempt -> owner = 0; lapsed = false :: else fi
#endif
  :: else -> fail()
  fi
}
inline answer(q) { sent[q] = false; cond[q] = 0; named[q] = 0; flying-- }
inline close(u) {
  rest[u] = 0;
  if :: sent[ASK(u, 1)] -> answer(ASK(u, 1)) :: else fi;             /* NoSuchUpload */
  if :: sent[ASK(u, 2)] -> answer(ASK(u, 2)) :: else fi
}
inline abort(u) {                                                  /* object_store.py: abort */
  if
  :: up[u] == OPEN -> up[u] = GONE; close(u)
  :: else
  fi
}
inline abort_orphans(but) {     /* uploads.py: abort_orphans; as of the list, so it is one step */
  i = 1;
  do :: i <= opened && i != but -> abort(i); i++ :: i == but -> i++ :: else -> break od;
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
  seen = 0; again = false; unknown = false; retry = false; hopeless = false; goes_on = false; looks = false
}

proctype Worker(byte me) {
  byte mine, last, before, u, seen, i;   /* the attempt, and what the row said as it was claimed */
  bool again, unknown, retry, hopeless, goes_on, looks;
end:
  do
  :: {
    d_step {                             /* leases.sql: claim. (Worker 1 is who is first.) */
      !ENDED && (owner == 0 || lapsed) && attempt < ATTEMPTS + ends && (me == 1 || attempt) ->
      state = TRANSFERRING; attempt++; owner = me; lapsed = false; looks = ends;
      mine = attempt; last = upload; before = completing; works[me] = mine; opens[me] = true };
    if                                   /* transfer.py: _end_or_finish */
    :: looks ->
       opens[me] = false;
       if
       :: d_step { abort(last); last = 0 }
       :: d_step { faults -> faults--; retry = true }; goto settle
       fi;
       if
       :: before && object == before -> seen = before; goto finish
       :: else -> d_step { if :: SEEN -> fail() :: else fi }; goto over  /* settle.py: EndingError */
       fi
    :: else
    fi;
#ifndef NO_FENCE                         /* defect: the predecessor's upload stays open */
    if                                   /* transfer.py: _fence */
    :: d_step { last && saved == last && up[last] == OPEN ->             /* resume.py: find */
         u = last; goes_on = true; opens[me] = false }
    :: d_step { abort(last) }
    fi;
    if :: mine > 1 -> d_step { abort_orphans(u) } :: else fi;
#endif
    last = 0;
    if                                   /* transfer.py: _completed_before */
    :: before && object == before -> seen = before; goto finish
    :: else
    fi;
    if :: goes_on -> goto stream :: else -> before = 0 fi;
begin:                                   /* transfer.py: _begin */
    atomic { opened++; assert(opened <= UPLOADS); u = opened; up[u] = OPEN; first[u] = MAKER };
    if
    :: true
#ifdef BEGIN_AGAIN                       /* defect: it opens another one in the same attempt */
    :: d_step { faults -> faults--; lose(u); u = 0 }; d_step { abort_orphans(0) }; goto begin
#else
    :: d_step { faults -> faults--; lose(u); u = 0; retry = true }; goto settle   /* no answer */
#endif
    fi;
    if                                   /* leases.sql: record_upload */
    :: d_step { HELD -> upload = u; noted_by = 0; opens[me] = false }
    :: !HELD -> goto give_up
    fi;
stream:
    do                                   /* sinks/transfer.py: stream, beside slots.py: _renew */
    :: d_step { HELD && lapsed -> lapsed = false }
    :: !HELD -> goto give_up
    :: d_step { faults -> faults--; retry = true }; goto give_up
    :: hopeless = true; goto give_up
    :: d_step { HELD && upload == u && saved != u -> saved = u }         /* checkpoints.sql: hold_attempt */
    :: goes_on -> goto lose_upload       /* CheckpointUnusableError */
    :: break
    od;
    atomic { part[me] == 0 -> part[me] = u };
    do
    :: part[me] == 0 -> break
    :: d_step { faults -> faults--; if :: up[u] == OPEN -> rest[u] = MAKER :: else fi }; break   /* twice */
    :: !HELD -> goto give_up
    od;
    if :: up[u] == GONE || up[u] == MADE -> goto lose_upload :: up[u] != GONE -> skip fi;
complete:                                /* completion.py: CompletionGuard.allowed */
    if :: SAFE :: !SAFE -> retry = true; goto give_up fi;
#ifndef NO_QUESTION                      /* defect: the database is not asked */
    if                                   /* leases.sql: record_completion, under lock_object */
    :: d_step { lock == 0 && HELD && !ends ->
         completing = ETAG; noted_by = mine; undecided = true; lapsed = false; asks[me] = true }
    :: lock == 0 && HELD && ends -> retry = true;                        /* EndingError */
       if :: d_step { abort(u) } :: true fi; goto settle
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
      :: sent[ASK(u, me)]                /* an earlier request of it is still on its way */
      :: !sent[ASK(u, me)] && up[u] == OPEN ->
         sent[ASK(u, me)] = true; flying++; cond[ASK(u, me)] = seen; named[ASK(u, me)] = ETAG
      :: else -> unknown = true          /* NoSuchUpload */
      fi; seen = 0 };
    if
    :: unknown || (!sent[ASK(u, me)] && (up[u] != GOING || by[u] != me))
    :: d_step { faults -> faults--; again = true }; goto complete        /* no answer */
    :: !HELD -> goto give_up             /* slots.py: _renew: a clear answer */
    fi;
    if
    :: !unknown && up[u] == OPEN && rest[u] == MAKER -> goto look        /* 412 */
    :: !unknown && up[u] == OPEN && rest[u] != MAKER -> unknown = true   /* InvalidPart */
    :: else
    fi;
    seen = object;
    if
    :: seen == ETAG -> goto finish
    :: seen != ETAG && (unknown || up[u] == GONE || by[u] != me) -> goto lose_upload
    :: else ->                           /* WrongObjectError; transfer.py: _remove */
       d_step { abort(u) }; remove(mine, me); retry = true; goto settle
    fi;
lose_upload:                             /* UploadLostError; transfer.py: deliver */
    atomic { abort(u); u = 0; asks[me] = false; unknown = false; again = false; seen = 0 };
    if
#ifdef TRUSTED                           /* defect: it does not look what became of an upload that is gone */
    :: goes_on && before -> seen = before; goto finish
#else
    :: goes_on && before && object == before -> seen = before; goto finish
#endif
    :: else -> goes_on = false; before = 0
    fi;
    if
#ifdef BLIND_START                       /* defect: it begins again whatever its lease */
    :: opens[me] = true
#else
    :: atomic { SAFE -> opens[me] = true }
    :: !SAFE -> retry = true; goto give_up
#endif
    fi;
    goto begin;
finish:                                  /* transfer.py: finish, _end */
    atomic {
      if
      :: SEEN -> assert(object == seen); state = DONE; result = seen; completing = 0; saved = 0; ends = false;
         undecided = false; owner = 0; lapsed = false; tell()
      :: else
      fi };
    goto over;
give_up:                                 /* transfer.py: _archive */
    if
    :: u && saved == u && !hopeless      /* resume.py: is_kept */
    :: else -> if :: d_step { abort(u) } :: true fi
    fi;
settle:                                  /* settle.py: settle */
    if
    :: d_step { retry && HELD -> owner = 0; lapsed = false }             /* leases.sql: release */
    :: d_step { hopeless && SEEN -> fail_or_note(true) }
    :: else
    fi;
over:
    atomic { idle() }
  } unless { d_step { dies == me ->      /* nothing more of it happens; its transaction is undone */
      if :: lock == me -> lock = 0 :: else fi; i = 0; dies = 0; idle() } }
  od
}

proctype Request(byte u, w) {            /* the store carries out what a worker asked, at its leisure */
  byte q = ASK(u, w), going, unless_met;
end:
  do
  :: d_step { w == 1 && up[u] == LOST -> up[u] = OPEN; lost-- }
  :: d_step { part[w] == u -> part[w] = 0; if :: up[u] == OPEN -> rest[u] = MAKES(w) :: else fi }
  :: d_step { sent[q] && SAME && MET(cond[q]) ->
       up[u] = MADE; by[u] = w; assert(named[q] == OF(first[u], rest[u])); put(named[q]); close(u) }
  :: d_step { sent[q] && !(SAME && MET(cond[q])) -> answer(q) }
  :: d_step { sent[q] && SAME && MET(cond[q]) && faults ->
       faults--; up[u] = MADE; by[u] = w; put(WRONG); close(u) }
#ifndef STRICT
  :: d_step { sent[q] && SAME -> up[u] = GOING; by[u] = w; going = named[q]; unless_met = cond[q];
       flying++; close(u) }
  :: d_step { up[u] == GOING && by[u] == w && MET(unless_met) ->
       up[u] = MADE; flying--; put(going); going = 0; unless_met = 0 }
  :: d_step { up[u] == GOING && by[u] == w && !MET(unless_met) ->
       up[u] = GONE; flying--; going = 0; unless_met = 0 }
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
  :: d_step { !ENDED && !ends -> fail_or_note(false) }                   /* expire.py: expire; intervene.py: cancel */
#endif
  :: d_step { ends && !undecided -> fail() }                             /* transactions.sql: expired */
  :: d_step { (ENDED || ends) && undecided && !flying && !asks[1] && !asks[2] -> undecided = false }
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
     d_step { abort_orphans(0) };
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
  atomic { run Worker(1); run Worker(2); for (i : 1 .. UPLOADS) { run Request(i, 1); run Request(i, 2) } }
}
