package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/assets"
	"example.com/chat/internal/wstest"
)

// The log shows a URL that works on this machine.
func TestDisplayURL(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv6loopback, Port: 8080}
	for addr, want := range map[string]string{
		":8080":             "http://localhost:8080/",
		":0":                "http://localhost:8080/",
		"0.0.0.0:8080":      "http://localhost:8080/",
		"[::]:8080":         "http://localhost:8080/",
		"[::1]:8080":        "http://[::1]:8080/",
		"chat.example:http": "http://chat.example:8080/",
	} {
		if got := displayURL("http", addr, bound); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

// If the listener fails, serve stops the chat and returns the error.
func TestListenerFails(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 1
	c, err := openChat(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serve(t.Context(), listener, nil, c) }()
	client := wstest.Join(t, listener.Addr().String())
	listener.Close()
	client.ExpectClose(1001)
	client.Conn.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v, want %v", err, net.ErrClosed)
	}
}

// A stop waits 1 s for responses in progress, and cuts them off then.
func TestStopWaitsForResponses(t *testing.T) {
	for _, test := range []struct {
		wait  time.Duration // until the client reads
		whole bool
	}{
		{time.Second - 1, true},
		{time.Second + 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory)
			conn := c.dial()
			io.WriteString(conn, "GET /assets/jquery.min.js HTTP/1.1\r\nHost: chat\r\n\r\n")
			synctest.Wait()
			began := time.Now()
			go c.stop()
			time.Sleep(test.wait)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
			}
			if (err == nil) != test.whole {
				t.Errorf("a client that reads after %v: got error %v, want the response: %v", test.wait, err, test.whole)
			}
			c.stop()
			if took := time.Since(began); took > time.Second+1 {
				t.Errorf("the stop took %v, want 1 s", took)
			}
		})
	}
}

// A stop takes 1 s although idle TLS clients do not read the close notifications that they get.
func TestStopDoesNotWaitForTLS(t *testing.T) {
	certificate := newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.tls = certificate }))
		for range 3 {
			conn := tls.Client(c.dial(), &tls.Config{InsecureSkipVerify: true})
			io.WriteString(conn, "GET /"+assets.ManifestName+" HTTP/1.1\r\nHost: chat\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		c.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v, want at most 1 s", took)
		}
	})
}
