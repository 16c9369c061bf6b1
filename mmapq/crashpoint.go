package mmapq

// CrashPoint names a place where a kill hurts most: between two steps that belong together. A build with the tag crashpoints tells a rig when
// it passes one (AtPoint), so that the rig can kill it there; perf/crash has the same table.
type CrashPoint byte

// The points. Each is its own byte on the rig's pipe.
const (
	PointSeal         CrashPoint = 'a' // a full segment is sealed, its successor not yet active
	PointActivate     CrashPoint = 'b' // the header of the next segment is written
	PointRecycle      CrashPoint = 'c' // a segment file is at hand, not yet recorded as whose
	PointFree         CrashPoint = 'd' // segments are about to be recorded as free
	PointFreed        CrashPoint = 'e' // that is synced, the files are not yet in the pool
	PointManifest     CrashPoint = 'f' // a record is about to be written
	PointManifestDone CrashPoint = 'g' // a record is written, its effect not yet in memory
	PointRewrite      CrashPoint = 'h' // the new manifest is complete, not yet in place
	PointRewritten    CrashPoint = 'i' // it is in place, the directory not yet synced
	PointSync         CrashPoint = 'j' // a sync round begins
	PointSyncData     CrashPoint = 'k' // messages are synced, the header does not say so yet
	PointSynced       CrashPoint = 'l' // a sync round ended
	PointTopicGone    CrashPoint = 'm' // a topic is about to be deleted
	PointChannelGone  CrashPoint = 'n' // the deletion of a channel is recorded, its files are still there
	PointEmpty        CrashPoint = 'o' // a channel's cursor is behind what Empty drops, its floor is not
	PointFloor        CrashPoint = 'p' // a floor is about to move
	PointState        CrashPoint = 'q' // state is about to be allocated
	PointPunch        CrashPoint = 'r' // state behind the floor is about to be punched
	PointDelay        CrashPoint = 's' // delays of requeues are recorded, their batch not yet answered
	PointDelaysTurn   CrashPoint = 't' // a new file of delays is there, the old one is still in use
	PointDelaysPast   CrashPoint = 'u' // a file of delays whose last is past is about to be removed
	PointRecover      CrashPoint = 'v' // a start has rewritten the manifest and begins to read segments
	PointCompact      CrashPoint = 'x' // a compacted segment is written, not yet synced
	PointCompacted    CrashPoint = 'y' // it is recorded, what it takes the place of is recorded too
	PointClose        CrashPoint = 'w' // a clean stop is about to sync
)
