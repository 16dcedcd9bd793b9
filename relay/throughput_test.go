package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// Three chats relay 50,000 lines a second of 64 bytes, and nobody misses one. On a slow machine the chats
// slow the speakers down, and the test takes longer.
func TestThroughput(t *testing.T) {
	const lines, speakers = 50_000, 6
	seconds := longOr(60, 3)
	w := meet(t, currentNATS, 0)
	crowd := wstest.Crowd{Speakers: speakers, Each: seconds * lines / speakers, Pad: 52}
	var peers []*wstest.Client
	for n := range speakers {
		p := wstest.Join(t, w.chats[n%3].addr)
		p.SetDeadline(time.Now().Add(time.Duration(10*seconds)*time.Second + time.Minute))
		peers = append(peers, p)
	}
	began := time.Now()
	var speaking, listening sync.WaitGroup
	for n, p := range peers {
		listening.Go(func() { crowd.Listen(p) })
		speaking.Go(func() { speakEvenly(p, crowd, n, lines/speakers) })
	}
	speaking.Wait()
	said := time.Since(began)
	listening.Wait()
	heard := time.Since(began)
	w.noGap()
	all := float64(crowd.Each * speakers)
	t.Logf("people said %.0f lines a second for %v, and heard the last one %v later", all/said.Seconds(), said, heard-said)
}

// speakEvenly sends the speaker's lines through p at an even rate. It returns when all are sent or p fails.
func speakEvenly(p *wstest.Client, crowd wstest.Crowd, speaker, perSecond int) {
	pad := strings.Repeat(" ", crowd.Pad)
	for n, began := 0, time.Now(); n < crowd.Each; time.Sleep(10 * time.Millisecond) {
		var lines []byte
		for due := int(time.Since(began).Seconds() * float64(perSecond)); n < min(due, crowd.Each); n++ {
			lines = append(lines, wstest.Frame(0x81, fmt.Sprint(speaker, " ", n, pad))...)
		}
		if _, err := p.Write(lines); err != nil {
			p.T.Errorf("speaker %d, line %d: %v", speaker, n, err)
			return
		}
	}
}
