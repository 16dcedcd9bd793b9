package relayserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

// savedState is the header of a snapshot, which is a line of JSON. The lines of the outbox follow it. Its
// keys are those of messages between a chat and its relay, and "heard".
type savedState struct {
	Chat struct {
		relay.Hello            // without Backlog
		Delivered   once.Marks `json:"heard,omitempty"` // last line handed to a Hub, by origin
	} `json:"hello"`
	First    uint64          `json:"first"`          // number of the first line in the outbox, or of the next line
	Segments []relay.Segment `json:"said,omitempty"` // of the lines in the outbox
}

// Snapshot returns the state with which the Server of the next run continues. It must be called after Serve
// has returned. Only one run may use the state, because two runs would give the same numbers to different
// lines.
func (s *Server) Snapshot() []byte {
	held, asked := s.outbox.Snapshot()
	saved := savedState{First: held.First, Segments: held.Segments}
	saved.Chat.Hello, saved.Chat.Delivered = relay.Hello{Origin: held.Origin, Asked: asked, Cursor: s.hello().Cursor}, s.Delivered()
	header, err := json.Marshal(saved)
	if err != nil {
		panic(err) // it consists of strings and numbers alone
	}
	return bytes.Join([][]byte{header, held.Body}, []byte{'\n'})
}

// restore continues from a Snapshot. New calls it. After an error the Server is unchanged.
func (s *Server) restore(snapshot []byte) error {
	header, text, _ := bytes.Cut(snapshot, []byte{'\n'})
	var saved savedState
	err := json.Unmarshal(header, &saved)
	if err == nil && saved.Chat.Origin == "" {
		err = errors.New("it has no origin")
	}
	var outbox *relay.Outbox
	if err == nil {
		held := relay.Message{Origin: saved.Chat.Origin, First: saved.First, Segments: saved.Segments, Body: text}
		outbox, err = relay.RestoreOutbox(held, saved.Chat.Asked)
	}
	if err != nil {
		return fmt.Errorf("not a snapshot: %w", err)
	}
	s.outbox, s.cursor = outbox, saved.Chat.Cursor
	s.marked = saved.Chat.Origin
	if origin := outbox.Origin(); origin != saved.Chat.Origin {
		slog.Warn("line numbers in the saved state are too high: the chat has a new origin", "origin", origin)
	}
	s.seen.Merge(saved.Chat.Delivered)
	if refused := s.delivered.Merge(saved.Chat.Delivered); refused > 0 {
		slog.Warn("marks of other chats in the saved state are too high: not used", "marks", refused)
	}
	return nil
}
