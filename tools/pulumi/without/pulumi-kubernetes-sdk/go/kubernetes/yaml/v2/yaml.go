// Package v2 registers nothing: the plugin is built without its components.
package v2

import (
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func RegisterResource(
	*pulumi.Context, string, string, string, pulumi.Input, ...pulumi.ResourceOption,
) (pulumi.CustomResource, error) {
	return nil, errors.New("this plugin is built without its components (tools/pulumi/without/pulumi-kubernetes-sdk)")
}
