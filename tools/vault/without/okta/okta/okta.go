// Package okta stands in for Okta's client, whose one package is among the largest there are: with it Vault asks Okta for
// a second factor. Nothing gets past NewConfiguration; the rest is there for Vault to compile.
package okta

import (
	"context"
	"errors"
	"net/http"
)

type (
	Configuration struct{ Context context.Context }
	ConfigSetter  func(*Configuration)
	APIClient     struct {
		UserAPI       UserAPI
		UserFactorAPI UserFactorAPI
	}
	UserAPI        struct{}
	UserFactorAPI  struct{}
	UserFactorPush struct{ identified }
	User           struct{ identified }
	Factor         struct{ UserFactorPush *UserFactorPush }
	Verification   struct{ Links map[string]any }
	Transaction    struct {
		UserFactorPushTransactionWaiting, UserFactorPushTransaction         *struct{}
		UserFactorPushTransactionRejected, UserFactorPushTransactionTimeout *struct{}
	}
	identified     struct{}
	request[T any] struct{}
)

var errLeftOut = errors.New("this Vault is built without Okta's client (tools/vault/without/okta)")

func NewConfiguration(...ConfigSetter) (*Configuration, error) { return nil, errLeftOut }
func WithToken(string) ConfigSetter                            { return nil }
func WithOrgUrl(string) ConfigSetter                           { return nil }
func WithCache(bool) ConfigSetter                              { return nil }

func NewAPIClient(*Configuration) *APIClient  { return nil }
func (*APIClient) GetConfig() *Configuration  { return nil }
func (*identified) GetId() string             { return "" }
func (*Verification) GetFactorResult() string { return "" }
func (r request[T]) Filter(string) request[T] { return r }
func (request[T]) Execute() (result T, _ *http.Response, err error) {
	return result, nil, errLeftOut
}

func (UserAPI) ListUsers(context.Context) (r request[[]User])                   { return }
func (UserFactorAPI) ListFactors(context.Context, string) (r request[[]Factor]) { return }
func (UserFactorAPI) VerifyFactor(context.Context, string, string) (r request[*Verification]) {
	return
}
func (UserFactorAPI) GetFactorTransactionStatus(context.Context, string, string, string) (r request[*Transaction]) {
	return
}
