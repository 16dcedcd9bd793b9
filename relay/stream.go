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
	// maxAge is how long a JetStream stream made by the relay keeps a message. The relay reads no
	// older messages of any JetStream stream, unless they follow the chat's cursor. maxAge must be shorter
	// than the 48 hours for which a chat remembers the last line of an origin. Otherwise a chat could deliver
	// old lines twice.
	maxAge = 24 * time.Hour

	// maxBytes limits the files of a JetStream stream made by the relay, in bytes. Beyond it NATS deletes the
	// oldest messages.
	maxBytes = 256 << 20

	// requestWait limits how long the relay waits for an answer of NATS. NATS may still carry out a request
	// afterwards.
	requestWait = 10 * time.Second

	// pingInterval is how often the relay pings NATS. After two unanswered pings it gives the connection up.
	pingInterval = 5 * time.Second
)

// natsOptions returns the options of the connection to NATS. Credentials and certificates come from the same
// environment variables as those of the nats command. If embedded is true, the relay runs NATS itself, and
// variables that this NATS does not support are an error.
func natsOptions(embedded bool) ([]nats.Option, error) {
	for _, name := range []string{"NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_CERT", "NATS_KEY"} {
		if embedded && os.Getenv(name) != "" {
			return nil, fmt.Errorf("%s in the environment needs -nats: the embedded NATS supports NATS_USER and NATS_PASSWORD only", name)
		}
	}
	options := []nats.Option{
		nats.Name("chat relay"), nats.NoReconnect(), nats.Timeout(connectWait), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
	}
	user, password := os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")
	if (user == "") != (password == "") { // one alone would leave the embedded NATS open
		return nil, errors.New("want both NATS_USER and NATS_PASSWORD in the environment, or neither")
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

// connect connects to NATS. It calls failed, on another goroutine, when the connection ends or NATS reports
// an error. It returns a permanentError for wrong credentials, for missing files, and if only one side uses TLS.
func connect(cfg config, options []nats.Option, failed func(error)) (*nats.Conn, error) {
	options = append(slices.Clone(options),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { failed(fmt.Errorf("disconnected from NATS: %w", cmp.Or(err, io.EOF))) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failed(fmt.Errorf("NATS: %w", err)) }))
	conn, err := nats.Connect(strings.Join(cfg.nats, ","), options...)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, fs.ErrNotExist):
		return nil, permanentError{fmt.Errorf("connecting to NATS at %s: %w", redacted(cfg.nats), err)}
	case err != nil:
		return nil, fmt.Errorf("connecting to NATS at %s: %w", redacted(cfg.nats), err)
	}
	return conn, nil
}

// jetStream is the JetStream stream with the lines of all chats. Each origin has its own subject in it.
type jetStream struct {
	client jetstream.JetStream
	handle jetstream.Stream
	name   string // value of -name
}

// subject returns the subject of an origin's lines, or for "*" the subjects of all lines.
func (j *jetStream) subject(origin string) string { return j.name + ".lines." + origin }

// peopleSubject returns the subject of an origin's people counts, or for "*" the subjects of all counts. The
// JetStream stream does not store them, because the next count replaces each of them.
func (j *jetStream) peopleSubject(origin string) string { return j.name + ".people." + origin }

// originOf returns the origin in a subject.
func originOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// openJetStream returns the JetStream stream of that name. It creates the JetStream stream if there is none,
// and otherwise leaves its configuration alone. It returns a permanentError if NATS has no JetStream, or the
// JetStream stream other subjects.
func openJetStream(ctx context.Context, conn *nats.Conn, name string) (*jetStream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	client, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	j := &jetStream{client: client, name: name}
	j.handle, err = client.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		j.handle, err = client.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Description: "lines of chats, with one subject for each run of a chat", Subjects: []string{j.subject("*")},
			Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxAge: maxAge, MaxBytes: maxBytes,
		})
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) {
		return nil, permanentError{fmt.Errorf("NATS has no JetStream, start it with JetStream enabled: %w", err)}
	}
	if err != nil {
		return nil, fmt.Errorf("opening JetStream stream %q: %w", name, err)
	}
	if subjects := j.handle.CachedInfo().Config.Subjects; !slices.Contains(subjects, j.subject("*")) {
		return nil, permanentError{fmt.Errorf("JetStream stream %q has subjects %v, want %s", name, subjects, j.subject("*"))}
	}
	return j, nil
}

// last returns the sequence of an origin's last message in the JetStream stream, and the number of the line
// after that message. If there is no such message both are 0. If the message can't be decoded, next is
// the argument unreadable.
func (j *jetStream) last(ctx context.Context, origin string, unreadable uint64) (seq, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	msg, err := j.handle.GetLastMsgForSubject(ctx, j.subject(origin))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("reading the last message in the JetStream stream: %w", err)
	}
	m, err := relay.DecodeLines(msg.Data)
	if err != nil {
		return msg.Sequence, unreadable, nil
	}
	return msg.Sequence, m.Next(), nil
}

// wrongLast holds NATS's error codes for a publish whose expected last sequence is not the last one.
var wrongLast = []jetstream.ErrorCode{jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant}

// errNotStored says that NATS did not acknowledge lines in time. It may have stored them.
var errNotStored = fmt.Errorf("no acknowledgement within %v", requestWait)

// publish appends m to the JetStream stream if the origin's last message there has the sequence after, or if
// there is none and after is 0. So two relays of one chat can't both store a line.
//
// publish returns the sequence of m. If another message is the last one, it stores nothing and reports a
// conflict.
func (j *jetStream) publish(ctx context.Context, origin string, m relay.Message, after uint64) (seq uint64, conflict bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	ack, err := j.client.Publish(ctx, j.subject(origin), m.Encode(), jetstream.WithExpectLastSequencePerSubject(after))
	var wrong *jetstream.APIError
	if errors.As(err, &wrong) && slices.Contains(wrongLast, wrong.ErrorCode) {
		return 0, true, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNotStored
	}
	if err != nil {
		return 0, false, fmt.Errorf("publishing lines: %w", err)
	}
	return ack.Sequence, false, nil
}

// holds reports whether the JetStream stream holds the message at c. The sequence alone does not tell,
// because NATS gives a sequence again after it lost the end of the JetStream stream.
func (j *jetStream) holds(ctx context.Context, c relay.Cursor) (bool, error) {
	if c.Seq == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	msg, err := j.handle.GetMsg(ctx, c.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading message %d of the JetStream stream: %w", c.Seq, err)
	}
	return msg.Time.UnixNano() == c.Time, nil
}
