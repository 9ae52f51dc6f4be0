package mutants

// The packages whose tests catch mutants.
const (
	transferPkg = "cell/transfer"
	moverPkg    = "cell/mover"
	fencePkg    = "cell/fence"
	outboxPkg   = "cell/outbox"
	storePkg    = "directory/store"
	serverPkg   = "directory/server"
	deletionPkg = "cell/deletion"
	failoverPkg = "cell/reconcile"
	cellPkg     = "cell"
)

const lockTenant = "    PERFORM cell.lock_tenant(tenant, wait_ms);\n"

// table is every mutant, in the order in which a move meets what it lacks.
var table = []mutant{
	{
		name: "guard-reads-in-the-lock's-statement", why: "a transaction that waited for a freeze reads the fence as it was before it",
		in: "cell.enter",
		edit: []edit{
			{"THEN pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064) IS NOT NULL END", "THEN true END"},
			{"FROM cell.fence r\n", "FROM cell.fence r, LATERAL pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064)\n"},
		},
		pkg: fencePkg, test: "TestWhoeverWaitedForAFreezeSeesIt",
	},
	{
		name: "slow-guard-reads-in-the-lock's-statement", why: "the same, of a session's first transaction",
		in: "cell.enter_slowly",
		edit: []edit{
			{"    got := pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064);", "   "},
			{"FROM cell.fence r WHERE r.tenant_id OPERATOR(pg_catalog.=) tenant;", "FROM cell.fence r, LATERAL pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064) WHERE r.tenant_id OPERATOR(pg_catalog.=) tenant;"},
		},
		pkg: fencePkg, test: "TestWhoeverWaitedForAFreezeSeesIt",
	},
	{
		name: "guard-without-row-lock", why: "above READ COMMITTED an old snapshot passes a fence that is frozen by now",
		in: "cell.enter_slowly", edit: []edit{{"tenant FOR SHARE;", "tenant;"}},
		pkg: fencePkg, test: "TestOldSnapshotsDoNotPass",
	},
	{
		name: "guard-lets-the-mover-write-anybody", why: "the mover's role, which switches triggers off, writes rows of other tenants",
		in: "cell.protect", edit: []edit{{"ENABLE ALWAYS TRIGGER zz_cell_guard_insert, ENABLE ALWAYS TRIGGER zz_cell_guard_update,", "ENABLE ALWAYS TRIGGER zz_cell_guard_update,"}},
		pkg: transferPkg, test: "TestMoverWritesItsTenantOnly",
	},
	{
		name: "reserve-over-an-active-fence", why: "a cell that serves the tenant stops, for a move that does not concern it",
		in: "cell.reserve", edit: []edit{{"WHERE f.state IN ('moved', 'incoming') AND f.epoch < base + 1", "WHERE f.epoch < base + 1"}},
		pkg: transferPkg, test: "TestReserveLeavesWhoServesAlone",
	},
	{
		name: "undo-of-a-copy-that-is-another's", why: "an undo begins with rows that are not those of the move it takes back",
		in: "cell.reserve", edit: []edit{{"SELECT f.move_id = undoes AND f.state = 'moved' AND", "SELECT f.state = 'moved' AND"}},
		pkg: transferPkg, test: "TestReserveLeavesWhoServesAlone",
	},
	{
		name: "undo-from-nothing", why: "an undo copies the whole tenant instead of what changed",
		in: "cell.reserve", edit: []edit{{"VALUES (tenant, move, 0, '3:3:', '-infinity')", "VALUES (tenant, move, 0, '', '-infinity')"}},
		pkg: transferPkg, test: "TestUndoBringsOnlyWhatChanged",
	},
	{
		name: "arm-without-lock", why: "a transaction that began unarmed goes on and notes nothing",
		in: "cell.arm", edit: []edit{{lockTenant, ""}},
		pkg: transferPkg, test: "TestStepsWaitForOpenTransactions",
	},
	{
		name: "arm-again-forgets", why: "a step that is repeated drops the keys noted since the first time",
		in: "cell.arm", edit: []edit{{"f.epoch = base AND NOT f.capture;", "f.epoch = base;"}},
		pkg: transferPkg, test: "TestArmAgainKeepsWhatWasNoted",
	},
	{
		name: "capture-misses-a-changed-key", why: "a row that gets another key does not arrive under it",
		in: "cell.capture_body", edit: []edit{{"IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND jsonb_build_array(%2$s) <> jsonb_build_array(%3$s)) THEN", "IF TG_OP = 'INSERT' THEN"}},
		pkg: transferPkg, test: "TestRoundsFollowWritersAndNothingIsLost",
	},
	{
		name: "capture-by-one-function", why: "two tables whose labels make one name note each other's",
		in: "cell.capture_function", edit: []edit{{" AND NOT EXISTS (SELECT FROM used o WHERE o.name = plain AND NOT o.mine) THEN plain", " THEN plain"}},
		pkg: transferPkg, test: "TestTablesOfLikeNamesNoteTheirOwn",
	},
	{
		name: "capture-under-an-old-name", why: "the start leaves a renamed table's capture as it is",
		in: "cell.captured", edit: []edit{{"p.prosrc = cell.capture_body(t) AND ", ""}},
		pkg: transferPkg, test: "TestARenamedTableMoves",
	},
	{
		name: "capture-as-the-session-writes", why: "a key that is noted under other settings does not find its row",
		in: "cell.capture_settings", edit: []edit{{"SET timezone = 'UTC' SET datestyle = 'ISO, YMD' ", ""}},
		pkg: transferPkg, test: "TestKeysAreNotedInOneForm",
	},
	{
		name: "noted-keys-dropped", why: "keys of a table that the source does not know are taken for no changes",
		in: "cell/transfer/source.go", edit: []edit{{"	return nil, problem.New(problem.Conflict, \"keys of %s were noted, which is no tenant table any more\", labels[0])", "	return found, nil"}},
		pkg: transferPkg, test: "TestKeysOfANewTableAreNotDropped",
	},
	{
		name: "rewritten-table-is-empty", why: "a table that is rewritten while it is copied is lost: the snapshot sees none of its rows",
		in: "cell/transfer/source.go", edit: []edit{{"if err := asTheyWere(ctx, tx); err != nil {", "if err := error(nil); err != nil {"}},
		pkg: transferPkg, test: "TestATableThatIsRewrittenMeanwhileIsNotLost",
	},
	{
		name: "move-over-rewritten-tables", why: "what a rewriting has changed between two rounds is noted nowhere, and missing at the target",
		in: "cell/mover/work.go", edit: []edit{{"c := w.report.Files.rewritten(now); c != \"\" {", "c := w.report.Files.rewritten(now); c == \"?\" {"}},
		pkg: moverPkg, test: "TestNoMoveGoesOnOverAnotherSchema",
	},
	{
		name: "place-without-partition", why: "rows of other partitions at the same place are deleted",
		in: "cell/transfer/part.go", edit: []edit{{"WHERE d.tenant_id = $1 AND d.tableoid = t.part AND d.ctid = t.place", "WHERE d.ctid = t.place"}},
		pkg: transferPkg, test: "TestRoundsFollowWritersAndNothingIsLost",
	},
	{
		name: "cursor-stays-behind", why: "the target publishes again what the source had published",
		in: "cell/transfer/catalog.go", edit: []edit{{"AND n.nspname NOT IN ('pg_catalog', 'information_schema')", "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relname <> 'outbox_cursor'"}},
		pkg: transferPkg, test: "TestEventsMoveWithTheirCursor",
	},
	{
		name: "compared-by-a-nested-loop", why: "for each child of a tenant that the statistics do not know all its parents are read",
		in: "cell/transfer/many.go", edit: []edit{{"b.Queue(loops, \"off\")", "b.Queue(loops, \"on\")"}},
		pkg: transferPkg, test: "TestWhatIsComparedIsReadOnce",
	},
	{
		name: "extension-keys-as-text", why: "a row that gets the same citext in other letters is lost",
		in: "cell/transfer/catalog.go", edit: []edit{{"if t.KeyOps[i] == \"\" {", "if true {"}},
		pkg: transferPkg, test: "TestRoundsOfFewAndOfManyKeysBringTheSame",
	},
	{
		name: "round-leaves-one-out", why: "a target takes a round that does not continue what it has",
		in: "cell/transfer/target.go", edit: []edit{{" || head.Since != have.Snapshot", ""}},
		pkg: transferPkg, test: "TestRoundContinuesWhatIsThere",
	},
	{
		name: "round-of-a-zombie", why: "a mover that lost its lease writes rows into another move",
		in:   "cell/transfer/target.go",
		edit: []edit{{`b.Queue(enterRow, s.Tenant, string(s.Move), s.Epoch, []string{"incoming"})`, `b.Queue("SELECT set_config('cell.tenant', $1, true)", s.Tenant.String())`}},
		pkg:  transferPkg, test: "TestLateRoundIsRefused",
	},
	{
		name: "a-round-of-many-snapshots", why: "the tables of a round are not of one moment: rows come without those that they belong to",
		in: "cell/transfer/source.go", edit: []edit{{"IsoLevel: pgx.RepeatableRead, ", ""}},
		pkg: transferPkg, test: "TestConstraintsHoldAtEachCommit",
	},
	{
		name: "hashes-not-compared", why: "a row that changed on its way is served",
		in: "cell/transfer/target.go", edit: []edit{{"if stored != sent {", "if stored.Rows != sent.Rows {"}},
		pkg: transferPkg, test: "TestStreamCutShortCountsForNothing",
	},
	{
		name: "sequences-not-raised", why: "the target gives numbers that the tenant has already",
		in: "cell/transfer/target.go", edit: []edit{{"return s.raiseSequences(ctx, tx, p, from, args...)", "return nil"}},
		pkg: transferPkg, test: "TestMoveBringsEveryTypeAndLeavesTheNeighbourAlone",
	},
	{
		name: "altered-under-the-move", why: "a move goes on between cells that are not what they were",
		in: "cell/mover/work.go", edit: []edit{{"if w.facts.Schema != \"\" && w.facts.Schema != here.Fingerprint {", "if false {"}},
		pkg: moverPkg, test: "TestCellsAlteredUnderAMoveEndIt",
	},
	{
		name: "a-sequence-used-up", why: "a tenant with a number at the end of a sequence ends everybody's inserts at the target",
		in: "cell/transfer/numbers.go", edit: []edit{{"(q.seqmax::numeric - q.seqmin) / 10)", "0)"}},
		pkg: transferPkg, test: "TestASequenceNearItsEndIsRaised",
	},
	{
		name: "preflight-remembered-for-ever", why: "a table that was made unsafe since the last move passes",
		in: "cell/transfer/preflight.go", edit: []edit{{"known == version {", "known != \"\" {"}},
		pkg: transferPkg, test: "TestPreflightRefusesUnsafeSchemas",
	},
	{
		name: "cancel-not-heard", why: "a move that was cancelled copies to its end first",
		in: "cell/mover/pause.go", edit: []edit{{"if m.Wish == directory.Cancel && m.Phase.BeforeDecision() && c.end != nil {", "if false {"}},
		pkg: moverPkg, test: "TestACancelIsHeardDuringLongWork",
	},
	{
		name: "held-move-not-checked-again", why: "a move that waited for days is switched by what was true then",
		in: "cell/mover/plan.go", edit: []edit{{"case !held && !f.Checked:", "case !held && !f.Checked && held:"}},
		pkg: moverPkg, test: "TestAHeldMoveIsCheckedAgain",
	},
	{
		name: "freeze-without-lock", why: "a transaction that entered before the freeze commits after it",
		in: "cell.freeze_move", edit: []edit{{lockTenant, ""}},
		pkg: transferPkg, test: "TestStepsWaitForOpenTransactions",
	},
	{
		name: "freeze-at-any-epoch", why: "a late freeze stops a tenant that came back meanwhile",
		in: "cell.freeze_move", edit: []edit{{"f.tenant_id = tenant AND f.epoch = at_epoch AND", "f.tenant_id = tenant AND"}},
		pkg: transferPkg, test: "TestStepsOfAnotherEpochChangeNothing",
	},
	{
		name: "slot-given-away-in-the-pause", why: "a frozen tenant waits for another tenant's move",
		in: "cell/mover/pause.go", edit: []edit{{"	if w.pausing() {\n		return w.sleep", "	if false {\n		return w.sleep"}},
		pkg: moverPkg, test: "TestAFrozenTenantKeepsItsMover",
	},
	{
		name: "freeze-recorded-is-freeze-done", why: "who takes over waits for a freeze that nobody makes",
		in: "cell/mover/plan.go", edit: []edit{{"case f.Froze || m.Phase == directory.Staged:", "case true:"}},
		pkg: moverPkg, test: "TestARecordedFreezeIsMade",
	},
	{
		name: "late-freeze-is-not-looked-for", why: "a mover that was stopped before its freeze makes it, and the tenant waits without a budget",
		in: "cell/mover/pause.go", edit: []edit{{"doubts := w.heir && ", "doubts := false && "}},
		pkg: moverPkg, test: "TestALateFreezeHasABudget",
	},
	{
		name: "undo-over-another-schema", why: "keys that were noted before a table's key was changed are read as the new one's: acknowledged writes are lost",
		in: "cell/mover/undo.go", edit: []edit{{"case was.Schema != w.facts.Schema:", "case was.Schema != w.facts.Schema && false:"}},
		pkg: moverPkg, test: "TestAnUndoOverAnotherSchemaCopiesEverything",
	},
	{
		name: "reserve-leaves-a-dead-mover's-copy", why: "an undo that should copy everything begins with the kept copy, which a mover before had reserved",
		in: "cell.reserve", edit: []edit{{"r.move_id = move AND r.round = 0 AND NOT r.final", "false"}},
		pkg: transferPkg, test: "TestAnUndoWithoutTheKeptCopyBringsEverything",
	},
	{
		name: "reserve-forgets-that-a-copy-is-void", why: "after an undo that was aborted before its copy the next one begins with what a failover has left: acknowledged writes are lost",
		in: "cell.reserve", edit: []edit{{"\n         WHERE r.move_id <> 'void:' || undoes", ""}},
		pkg: transferPkg, test: "TestAVoidCopyStaysVoid",
	},
	{
		name: "late-reservation-of-a-kept-copy", why: "an undo that is over takes the kept copy: after a failover of the source the next one begins with what that has lost",
		in: "cell.reserve", edit: []edit{{" AND f.epoch < base + 1 INTO kept", " INTO kept"}},
		pkg: transferPkg, test: "TestACopyBegunAnewIsVoid",
	},
	{
		name: "late-reservation-of-a-copy", why: "a mover that has lost its move has all of it copied again, in the pause too",
		in: "cell.reserve", edit: []edit{{" AND r.at = '-infinity'", ""}},
		pkg: transferPkg, test: "TestALateReservationLeavesTheCopy",
	},
	{
		name: "what-a-pause-has-brought-counts-for-ever", why: "after a failover of the source an undo begins with a copy that has what the source has lost",
		in: "cell.discard", edit: []edit{{"coalesce(substring(r.snapshot FROM '^[0-9]+/'), '0/') || '3:3:'", "'3:3:'"}},
		pkg: transferPkg, test: "TestACopyBegunAnewIsVoid",
	},
	{
		name: "keys-alone-are-kept", why: "a target deletes rows of a table that comes in parts after the new ones have come: they are lost",
		in: "cell/transfer/table.go", edit: []edit{{"const extension = \"\\xff\\xff\"", "const extension = \"\""}},
		pkg: transferPkg, test: "TestATableInPartsBringsTheSame",
	},
	{
		name: "keys-without-bound", why: "a target that has to hold all keys of a very large round runs out of memory, again and again",
		in: "cell/transfer/table.go", edit: []edit{{"full := most > 0 && size > 0 && size+len(key) > most", "full := false"}},
		pkg: transferPkg, test: "TestAMillionKeysTakeBoundedMemory",
	},
	{
		name: "undo-over-damage", why: "a tenant goes back to the copy that a comparison has found to differ",
		in: "cell/mover/undo.go", edit: []edit{{"if m.Undoes == \"\" || w.report.Whole {", "if true {"}},
		pkg: moverPkg, test: "TestAnUndoEndsWhereItsCopyIsFoundToDiffer",
	},
	{
		name: "two-releases-compared", why: "all watching moves of a cell are taken for damaged while it has another release",
		in: "cell/mover/compare.go", edit: []edit{{"if here.Fingerprint != there.Fingerprint {", "if here.Fingerprint == \"\" || there.Fingerprint == \"\" {"}},
		pkg: moverPkg, test: "TestCellsOfTwoReleasesAreNotCompared",
	},
	{
		name: "schema-of-the-take-over", why: "who takes over compares the cells with what they are then, and not with what they were before the copy",
		in: "cell/mover/mover.go", edit: []edit{{"	w.facts.Schema = w.report.Schema\n", ""}},
		pkg: moverPkg, test: "TestNoMoveGoesOnOverAnotherSchema",
	},
	{
		name: "checked-for-good", why: "cells that are altered after a freeze was refused are not compared again",
		in: "cell/mover/pause.go", edit: []edit{{"(w.facts.Refused > 0 ||", "(false ||"}},
		pkg: moverPkg, test: "TestNoMoveGoesOnOverAnotherSchema",
	},
	{
		name: "round-that-the-disk-does-not-have", why: "a source that is killed gives the numbers of transactions that a round has seen to others, whose notes are skipped",
		in: "cell/transfer/source.go", edit: []edit{{"pg_logical_emit_message(true, 'cellway', '')", "''"}},
		pkg: transferPkg, test: "TestARoundIsOnDiskBeforeItCounts",
	},
	{
		name: "columns-of-yesterday", why: "a column that was added to both cells during the move is not sent",
		in: "cell/transfer/source.go", edit: []edit{{"s.tables.get(ctx, tx, fresh || since", "s.tables.get(ctx, tx, since"}},
		pkg: transferPkg, test: "TestTablesMayBeAlteredWhileStatementsStayPrepared",
	},
	{
		name: "decide-without-compare-and-set", why: "the directory gives away a tenant that is no longer where the move began",
		in: "directory/move_rules.go", edit: []edit{{" || p.Epoch != m.Base", ""}},
		pkg: storePkg, test: "TestMovesDoNotPlaceWhatIsNotTheirs",
	},
	{
		name: "advance-without-lease", why: "a mover that lost its lease records a phase",
		in: "directory/move_rules.go", edit: []edit{{"said.Lease <= 0 || said.Lease != m.Lease", "said.Lease <= 0"}},
		pkg: storePkg, test: "TestStoreMoves",
	},
	{
		name: "abort-keeps-the-epoch", why: "what a mover says late fits the epoch of the tenant that it was to take",
		in: "directory/move_rules.go", edit: []edit{{"Epoch: m.Base + 2", "Epoch: m.Base + 1"}},
		pkg: storePkg, test: "TestStoreMoves",
	},
	{
		name: "plans-meet-in-a-cell", why: "two plans that were made at once bring two tenants of a group to one cell",
		in: "directory/move_rules.go", edit: []edit{{"case n.Planned && kin:", "case false:"}},
		pkg: storePkg, test: "TestStoreMoves",
	},
	{
		name: "a-retry-forgets-the-plan", why: "a planned move that is tried again takes a tenant that was pinned meanwhile",
		in: "directory/move_rules.go", edit: []edit{{"Planned: m.Planned,", ""}},
		pkg: storePkg, test: "TestStoreMoves",
	},
	{
		name: "a-rehearsal-arms", why: "a dry run has the tenant's changes noted, under a move that nobody ends",
		in: "cell/mover/drycell.go", edit: []edit{{"fresh := f.Epoch == 0 && m.Base == 1", "err = c.real.Arm(ctx, m, wait)\n	fresh := err == nil && f.Epoch == 0 && m.Base == 1"}},
		pkg: moverPkg, test: "TestARehearsalChangesNothing",
	},
	{
		name: "activate-before-the-decision", why: "the target serves while the move can still be aborted",
		in: "cell/mover/work.go", edit: []edit{{"	case Decide:\n", "	case Decide:\n		_ = dst.Activate(step, m)\n"}},
		pkg: moverPkg, test: "TestTheDirectoryDecidesFirst",
	},
	{
		name: "activate-before-the-last-round", why: "the target serves without what changed last",
		in: "cell.activate_move", edit: []edit{{"r.move_id = move AND r.final)", "r.move_id = move)"}},
		pkg: transferPkg, test: "TestRoundContinuesWhatIsThere",
	},
	{
		name: "activate-unarmed", why: "what changes after the move is not noted, and an undo loses it",
		in: "cell.activate_move", edit: []edit{{"SET state = 'active', capture = true,", "SET state = 'active', capture = false,"}},
		pkg: transferPkg, test: "TestUndoBringsOnlyWhatChanged",
	},
	{
		name: "final-of-a-tenant-that-is-served", why: "what is written between the last round and the freeze is lost",
		in: "cell/transfer/target.go", edit: []edit{{"if !head.Frozen {", "if false {"}},
		pkg: transferPkg, test: "TestRoundContinuesWhatIsThere",
	},
	{
		name: "round-beside-a-migration", why: "rows come to a cell behind a migration that is under way: they never have it",
		in: "cell/transfer/target.go", edit: []edit{{"if !settled {", "if false {"}},
		pkg: transferPkg, test: "TestNoLastRoundMeetsAMigration",
	},
	{
		name: "round-of-other-migrations", why: "rows come to a cell without a migration that it has had, or with one that it has yet to have",
		in: "cell/transfer/target.go", edit: []edit{{"sameMigrations(head.Migrations, migrations)", "sameMigrations(migrations, migrations)"}},
		pkg: transferPkg, test: "TestALastRoundIsOfTheSameMigrations",
	},
	{
		name: "answer-before-the-freeze", why: "the last round is given while the tenant may still write",
		in: "cell/transfer/frozen.go", edit: []edit{{"if err != nil || f.State != fence.Active || f.Epoch != r.Base {", "if err != nil || f.State != fence.Frozen || f.Epoch != r.Base {"}},
		pkg: transferPkg, test: "TestTheLastRoundIsAskedForBeforeTheFreeze",
	},
	{
		name: "release-before-the-decision", why: "the source serves again while the move can still be decided",
		in: "cell/mover/work.go", edit: []edit{{"	case Abort:\n", "	case Abort:\n		_ = src.Release(step, m)\n"}},
		pkg: moverPkg, test: "TestTheDirectoryDecidesFirst",
	},
	{
		name: "forget-while-armed", why: "keys that a way back needs are removed",
		in: "cell.forget", edit: []edit{{"ON f.tenant_id = i.tenant_id AND NOT f.capture", "ON f.tenant_id = i.tenant_id"}},
		pkg: transferPkg, test: "TestNoNotedKeyIsLeft",
	},
	{
		name: "disarm-without-lock", why: "a transaction that notes keys goes on after the watch has ended",
		in: "cell.disarm", edit: []edit{{lockTenant, ""}},
		pkg: transferPkg, test: "TestStepsWaitForOpenTransactions",
	},
	{
		name: "relay-skips", why: "events are taken for published that were not",
		in: "cell/outbox/relay.go", edit: []edit{{"if err := r.send(ctx, events); err != nil {", "if err := r.send(ctx, events[:1]); err != nil {"}},
		pkg: outboxPkg, test: "TestRelayPublishesInOrder",
	},
	{
		name: "a-mover's-word-counts-anywhere", why: "a cell that is taken over does, at others, what a mover may",
		in: "cell/transfer/admit.go", edit: []edit{{"case c.Cell != s.Steps.cell:", "case false:"}},
		pkg: transferPkg, test: "TestEachPathIsForWhoNeedsIt",
	},
	{
		name: "a-target-asks-for-any-move", why: "a target reads tenants that move to other cells",
		in: "cell/transfer/server.go", edit: []edit{{"ok && only != req.ID {", "ok && only != req.ID && false {"}},
		pkg: transferPkg, test: "TestEachPathIsForWhoNeedsIt",
	},
	{
		name: "a-late-round-brings-keys", why: "a mover that is late sets the limit back of a tenant that is served",
		in: "cell/transfer/keys.go", edit: []edit{{"if err == nil && f.State == fence.Incoming && f.Move", "if err == nil && f.Move"}},
		pkg: transferPkg, test: "TestALastRoundThatIsAskedForAgainBringsTheKeys",
	},
	{
		name: "a-cell-speaks-for-others", why: "a cell that is taken over aborts the moves of another, or registers in its place",
		in: "directory/server/self.go", edit: []edit{{"(!ok || by.Subject", "(!ok && false || by.Subject"}},
		pkg: serverPkg, test: "TestACellSpeaksForItselfAlone",
	},
	{
		name: "purge-on-absence", why: "a directory that lost a tenant, or its deletion, costs the tenant its rows",
		in: "cell/deletion/look.go", edit: []edit{{"			lost++\n			a.unknown", "			lost++\n			_, _, _ = a.Rows.Deleted(ctx, t, p.Epoch)\n			a.unknown"}},
		pkg: deletionPkg, test: "TestNothingIsPurgedOnSilence",
	},
	{
		name: "purge-on-an-old-word", why: "what the directory has said before it was cut off, or restored, is purged",
		in: "cell/deletion/agent.go", edit: []edit{{"	a.due = due\n", "	if len(due) > 0 {\n		a.due = due\n	}\n"}},
		pkg: deletionPkg, test: "TestAnOldWordCountsNoLonger",
	},
	{
		name: "purge-in-the-grace", why: "who deletes the wrong tenant, or loses the record of it, has lost the rows",
		in: "cell/deletion/judge.go", edit: []edit{{"	case d.Due && (f.Rested || d.Hurried):", "	case d.Due || true:"}},
		pkg: deletionPkg, test: "TestADeletedTenantStandsStillAndIsPurged",
	},
	{
		name: "purge-at-an-older-epoch", why: "a directory that has lost the newest moves deletes what it does not know of",
		in: "cell.enter_purge", edit: []edit{{"AND f.epoch = at_epoch AND f.state", "AND f.state"}},
		pkg: deletionPkg, test: "TestNothingIsPurgedOnAnOlderWord",
	},
	{
		name: "deletion-at-an-older-epoch", why: "the same, of who is served: it stands still, and is purged",
		in: "cell.delete_tenant", edit: []edit{
			{"(f.epoch > at_epoch OR f.epoch = at_epoch AND f.state", "(f.epoch = at_epoch AND f.state"},
			{"DO UPDATE SET epoch = at_epoch,", "DO UPDATE SET epoch = greatest(f.epoch, at_epoch),"},
			{"         WHERE f.epoch <= at_epoch;", "         ;"},
		},
		pkg: deletionPkg, test: "TestNothingIsPurgedOnAnOlderWord",
	},
	{
		name: "deletion-without-lock", why: "a transaction of a deleted tenant goes on, and its rows come back after the purge",
		in: "cell.delete_tenant", edit: []edit{{"        PERFORM cell.lock_tenant(tenant, wait_ms);\n", ""}},
		pkg: deletionPkg, test: "TestWhoIsUnderWayEndsFirst",
	},
	{
		name: "purge-of-who-was-served-just-now", why: "a directory that was away while another served the tenant has all that was written since deleted at once",
		in: "cell/deletion/judge.go", edit: []edit{{"	case d.Due && (f.Rested || d.Hurried):", "	case d.Due:"}},
		pkg: deletionPkg, test: "TestATombstoneStandsAnHourBeforeItsPurge",
	},
	{
		name: "undelete-past-a-purge", why: "a tenant comes back whose purge has begun meanwhile: without its rows",
		in: "cell.undelete", edit: []edit{
			{"    PERFORM FROM cell.fence f WHERE f.tenant_id = undelete.tenant FOR UPDATE;\n", ""},
			{"begun_at IS NULL FOR UPDATE;", "begun_at IS NULL;"},
		},
		pkg: deletionPkg, test: "TestNothingIsTakenBackOnceItsPurgeBegan",
	},
	{
		name: "undelete-after-a-purge", why: "a later deletion forgets that the tenant's rows are gone, and lets it come back without them",
		in: "cell.fence_deleted", edit: []edit{{"since = excluded.since, purged_at", "since = excluded.since, begun_at = NULL, purged_at"}},
		pkg: deletionPkg, test: "TestNothingIsTakenBackOnceItsPurgeBegan",
	},
	{
		name: "purged-what-a-promotion-brought-back", why: "rows of a deleted tenant stay for ever, and the directory is told that they are gone",
		in: "cell.purged", edit: []edit{{"       AND of_generation = (SELECT s.generation || '/' || s.home FROM cell.serving s);", "       ;"}},
		pkg: deletionPkg, test: "TestAPurgeThatAPromotionHasLostIsDoneAgain",
	},
	{
		name: "move-rises-over-a-deleted-tenant", why: "a mover that is late brings back who was deleted",
		in: "cell.reserve", edit: []edit{{"WHERE f.state IN ('moved', 'incoming') AND f.epoch < base + 1", "WHERE f.state IN ('moved', 'incoming', 'deleted') AND f.epoch < base + 1"}},
		pkg: deletionPkg, test: "TestNoMoveRisesOverADeletedTenant",
	},
	{
		name: "complete-beats-a-difference", why: "a copy is purged that was just found to differ",
		in: "directory/move_rules.go", edit: []edit{{"case found:\n", "case found && m.Wish != Complete:\n"}},
		pkg: storePkg, test: "TestStoreMoves",
	},
	{
		name: "surveyed-here-written-there", why: "what was found in one run of the server is written into another, older one",
		in:   "cell/reconcile/agent.go",
		edit: []edit{{"a.Store.InSession(ctx, func(db pg.DB) error { return a.reconcile(ctx, db, witness) })", "a.reconcile(ctx, a.Store.DB(), witness)"}},
		pkg:  failoverPkg, test: "TestTheServerThatWasSurveyedIsWritten",
	},
	{
		name: "cache-outlives-a-move", why: "a tenant that comes back is told what its cell had cached before it left",
		in: "cell/cache.go", edit: []edit{{`":"), tx.Epoch)}`, `":"), 1)}`}},
		pkg: cellPkg, test: "TestWhatIsCachedEndsWithItsEpoch",
	},
	{
		name: "kept-copy-stays", why: "a tenant's rows stay for ever in a cell that it has left",
		in: "cell/mover/work.go", edit: []edit{{"n, err := src.Purge(ctx, m)", "n, err := int64(0), error(nil)"}},
		pkg: moverPkg, test: "TestTheKeptCopyGoesWithTheWayBack",
	},
}
