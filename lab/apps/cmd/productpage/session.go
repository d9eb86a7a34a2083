package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

const sessionCookie = "session"

// A session is the user's name with a signature, so that any replica reads it. Everybody may know the key, as they do
// the original's: Bookinfo has no passwords, and end-user proves nothing.
var sessionKey = []byte("bookinfo stand-in")

func signature(payload string) string {
	mac := hmac.New(sha256.New, sessionKey)
	mac.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// startSession remembers the user at the client; without a name it ends the session.
func startSession(w http.ResponseWriter, user string) {
	cookie := http.Cookie{Name: sessionCookie, Path: "/", HttpOnly: true, MaxAge: -1}
	if user != "" {
		payload := base64.RawURLEncoding.EncodeToString([]byte(user))
		cookie.Value, cookie.MaxAge = payload+"."+signature(payload), 0
	}
	http.SetCookie(w, &cookie)
}

// sessionUser is empty without a session that this program signed.
func sessionUser(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	payload, signed, _ := strings.Cut(cookie.Value, ".")
	user, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !hmac.Equal([]byte(signed), []byte(signature(payload))) {
		return ""
	}
	return string(user)
}
