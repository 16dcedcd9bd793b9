package store

import (
	"crypto/rand"
	"regexp"
	"slices"
	"strings"

	"example.com/chat/internal/stream"
)

// runs is the runs of the program since the directory was last closed as complete. Each of them but this one
// ended with a crash, or could not write everything.
//
// The file lock holds the runs. It is a mark, which is inUse or closed, and after inUse a line for each run,
// the oldest first. The line of a run is on the disk before the run serves anybody. A new run appends its
// line, so a write that is torn leaves the earlier runs as they are.
type runs struct {
	complete bool     // the directory was closed as complete, so before is empty
	before   []string // earlier runs, oldest first
	this     string   // identifies this run
}

const (
	inUse  = "in use, or not closed\n"
	closed = "closed\n"

	// maxRuns is the number of runs in the lock, and of past epochs in a record. A client with a position of
	// an older run gets the whole history.
	maxRuns = 100

	// maxMark is at least the length of the lock's content.
	maxMark = len(inUse) + maxRuns*len("ABCDEFGHIJKLMNOPQRSTUVWXYZ\n")
)

// runName is what rand.Text returns.
var runName = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// parseRuns returns the runs in the lock's content, and a new run. It ignores lines that name no run.
func parseRuns(content string) runs {
	r := runs{complete: content == closed, this: rand.Text()}
	for line := range strings.Lines(content) {
		if name, ok := strings.CutSuffix(line, "\n"); ok && runName.MatchString(name) {
			r.before = append(r.before, name)
		}
	}
	r.before = r.before[max(0, len(r.before)+1-maxRuns):]
	return r
}

// inUse returns the lock's content for this run.
func (r runs) inUse() string {
	return inUse + strings.Join(append(slices.Clip(r.before), r.this), "\n") + "\n"
}

// found returns the lock's content without this run.
func (r runs) found() string {
	if r.complete {
		return closed
	}
	return strings.TrimSuffix(r.inUse(), r.this+"\n")
}

// resume returns the record with which a room continues in this run, from the record that the run writer
// wrote. writer is "" if the file does not say which run wrote it.
//
// If the directory was not closed, lines may have been said after the record's end. So the room gets this run
// as a new epoch. Its former epoch becomes a past one, and so does each run between the writer and this one,
// because that run continued the same record. The room has these epochs even if it is never written before
// the next crash.
func (r runs) resume(record stream.Record, writer string) stream.Record {
	if r.complete {
		return record
	}
	past := append(slices.Clip(record.Past), stream.PastEpoch{Epoch: record.Epoch, End: record.End})
	for _, run := range r.before[slices.Index(r.before, writer)+1:] { // all of them if the writer is unknown
		past = append(past, stream.PastEpoch{Epoch: run, End: record.End})
	}
	record.Epoch, record.Past = r.this, past[max(0, len(past)-maxRuns):]
	return record
}
