// Package v4 has the types of a chart's arguments that the plugin reads.
package v4

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

type (
	RepositoryOptsInput interface{ pulumi.Input }
	PostRendererInput   interface{ pulumi.Input }
	RepositoryOpts      struct {
		CaFile   pulumi.AssetOrArchive `pulumi:"caFile"`
		CertFile pulumi.AssetOrArchive `pulumi:"certFile"`
		KeyFile  pulumi.AssetOrArchive `pulumi:"keyFile"`
		Password *string               `pulumi:"password"`
		Repo     *string               `pulumi:"repo"`
		Username *string               `pulumi:"username"`
	}
	PostRenderer struct {
		Args    []string `pulumi:"args"`
		Command string   `pulumi:"command"`
	}
)
