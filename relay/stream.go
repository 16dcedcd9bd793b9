package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/chat/internal/relay"
)

const (
	// Limits of a stream that the relay makes. What is beyond them is discarded, the oldest first.
	maxAge   = 24 * time.Hour
	maxBytes = 256 << 20

	// Time for a request to NATS. One that takes longer may have been carried out or not.
	requestWait = 10 * time.Second

	// A connection to NATS on which a ping is not answered for twice that long is given up.
	pingInterval = 5 * time.Second
)

// natsOptions returns options for the connection to NATS: credentials and certificates are taken from the
// environment, in the variables of the nats command, or from the URL. With own the relay runs NATS itself.
func natsOptions(own bool) ([]nats.Option, error) {
	for _, name := range []string{"NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_CERT", "NATS_KEY"} {
		if own && os.Getenv(name) != "" {
			return nil, fmt.Errorf("%s in the environment is for -nats: the NATS that the relay runs knows NATS_USER and NATS_PASSWORD only", name)
		}
	}
	options := []nats.Option{
		nats.Name("chat relay"), nats.NoReconnect(), nats.Timeout(connectWait), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
	}
	user, password := os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")
	if (user == "") != (password == "") {
		return nil, errors.New("want both NATS_USER and NATS_PASSWORD in the environment, or neither") // one alone protects nothing
	}
	if user != "" {
		options = append(options, nats.UserInfo(user, password))
	}
	if file := os.Getenv("NATS_CREDS"); file != "" {
		options = append(options, nats.UserCredentials(file))
	}
	if file := os.Getenv("NATS_NKEY"); file != "" {
		option, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			return nil, fmt.Errorf("NATS_NKEY %q: %w", file, err)
		}
		options = append(options, option)
	}
	if file := os.Getenv("NATS_CA"); file != "" {
		options = append(options, nats.RootCAs(file))
	}
	if cert, key := os.Getenv("NATS_CERT"), os.Getenv("NATS_KEY"); cert != "" || key != "" {
		options = append(options, nats.ClientCert(cert, key))
	}
	return options, nil
}

// connect connects to NATS. failed is called when the connection ends.
func connect(cfg config, options []nats.Option, failed func(error)) (*nats.Conn, error) {
	options = append(slices.Clone(options),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { failed(fmt.Errorf("disconnected from NATS: %w", cmp.Or(err, io.EOF))) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failed(fmt.Errorf("NATS: %w", err)) }))
	conn, err := nats.Connect(strings.Join(cfg.nats, ","), options...)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, fs.ErrNotExist):
		return nil, permanentError{fmt.Errorf("NATS at %s: %w", redacted(cfg.nats), err)}
	case err != nil:
		return nil, fmt.Errorf("NATS at %s: %w", redacted(cfg.nats), err)
	}
	return conn, nil
}

// lines is the stream of NATS, with the lines of all chats. Each origin has a subject of its own.
type lines struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
}

// subject returns where the lines of an origin are.
func (l *lines) subject(origin string) string { return l.name + ".lines." + origin }

// peopleSubject returns where it is said how many people the chat of an origin has. These messages are not in
// the stream.
func (l *lines) peopleSubject(origin string) string { return l.name + ".people." + origin }

// originOf returns the origin that a subject belongs to.
func originOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// openLines returns the stream of -name, which it makes if there is none. One that exists is used as it is.
func openLines(ctx context.Context, conn *nats.Conn, name string) (*lines, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	l := &lines{name: name}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	l.js = js
	l.stream, err = js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		l.stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Description: "lines of chats, for each run of one a subject", Subjects: []string{l.subject("*")},
			Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxAge: maxAge, MaxBytes: maxBytes,
		})
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) {
		return nil, permanentError{fmt.Errorf("the NATS has no JetStream: start it with JetStream enabled: %w", err)}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	if subjects := l.stream.CachedInfo().Config.Subjects; !slices.Contains(subjects, l.subject("*")) {
		return nil, permanentError{fmt.Errorf("stream %s has subjects %v, want %s: it is not a chat's", name, subjects, l.subject("*"))}
	}
	return l, nil
}

// last returns the last message of an origin in the stream: its sequence, and the number of the line behind it.
// The sequence is 0 if there is none. The number is otherwise if the message can't be read.
func (l *lines) last(ctx context.Context, origin string, otherwise uint64) (seq, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	msg, err := l.stream.GetLastMsgForSubject(ctx, l.subject(origin))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("last message in the stream: %w", err)
	}
	m, err := relay.DecodeLines(msg.Data)
	if err != nil {
		return msg.Sequence, otherwise, nil
	}
	return msg.Sequence, m.Next(), nil
}

// wrongLast are the codes of NATS for a message that does not follow the one it was to follow.
var wrongLast = []jetstream.ErrorCode{jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant}

var errNotStored = fmt.Errorf("NATS has not stored it within %v", requestWait)

// publish appends m, of an origin, to the stream, if the origin's last message there is the one with sequence after.
// It returns m's sequence, or that there is a conflict: another one is the last.
func (l *lines) publish(ctx context.Context, origin string, m relay.Message, after uint64) (seq uint64, conflict bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	ack, err := l.js.Publish(ctx, l.subject(origin), m.Encode(), jetstream.WithExpectLastSequencePerSubject(after))
	var wrong *jetstream.APIError
	if errors.As(err, &wrong) && slices.Contains(wrongLast, wrong.ErrorCode) {
		return 0, true, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNotStored
	}
	if err != nil {
		return 0, false, fmt.Errorf("publishing: %w", err)
	}
	return ack.Sequence, false, nil
}

// holds reports whether the message at p is still the one that it was.
func (l *lines) holds(ctx context.Context, p relay.Cursor) (bool, error) {
	if p.Seq == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	msg, err := l.stream.GetMsg(ctx, p.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("message %d of the stream: %w", p.Seq, err)
	}
	return msg.Time.UnixNano() == p.Time, nil
}
