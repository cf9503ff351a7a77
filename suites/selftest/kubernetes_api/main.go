// A real Kubernetes API server for custom resources, with its own etcd, on loopback: for tests of routers.
//
// It is the API machinery of Kubernetes (resource versions, conflicts, watch, schemas), without controllers, users
// or nodes. `kubernetes-api FOLDER PORT` keeps its data in FOLDER and ends when standard input does.
package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/etcd/server/v3/embed"
	noop "go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generated "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/util/wait"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes-api:", err)
		os.Exit(1)
	}
}

func run(folder, port string) error {
	database, err := startEtcd(filepath.Join(folder, "etcd"))
	if err != nil {
		return err
	}
	defer database.Close()
	config, err := configure(folder, port, database.Clients[0].Addr().String())
	if err != nil {
		return err
	}
	server, err := config.Complete().New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return server.GenericAPIServer.PrepareRun().RunWithContext(wait.ContextForChannel(stop))
}

func startEtcd(folder string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "error"
	config.EnableGRPCGateway = false
	config.UnsafeNoFsync = true // a test's data may die with the machine
	anywhere := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{anywhere}, []url.URL{anywhere}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{anywhere}, []url.URL{anywhere}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	database, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	<-database.Server.ReadyNotify()
	return database, nil
}

func configure(folder, port, database string) (*apiserver.Config, error) {
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	all := options.NewCustomResourceDefinitionsServerOptions(io.Discard, os.Stderr)
	chosen := all.RecommendedOptions
	chosen.Etcd.StorageConfig.Transport.ServerList = []string{"http://" + database}
	chosen.Etcd.SkipHealthEndpoints = true
	serving := chosen.SecureServing
	serving.BindAddress, serving.BindPort = net.ParseIP("127.0.0.1"), number
	serving.ServerCert.CertDirectory = filepath.Join(folder, "tls")
	if err := serving.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{serving.BindAddress}); err != nil {
		return nil, err
	}
	generic := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	if err := all.ServerRunOptions.Complete(); err != nil {
		return nil, err
	}
	if err := all.ServerRunOptions.ApplyTo(&generic.Config); err != nil {
		return nil, err
	}
	if err := chosen.Etcd.ApplyTo(&generic.Config); err != nil {
		return nil, err
	}
	if err := serving.ApplyTo(&generic.SecureServing, &generic.LoopbackClientConfig); err != nil {
		return nil, err
	}
	namer := openapinamer.NewDefinitionNamer(apiserver.Scheme, scheme.Scheme)
	generic.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(generated.GetOpenAPIDefinitions, namer)
	generic.MergedResourceConfig = apiserver.DefaultAPIResourceConfigSource()
	return &apiserver.Config{
		GenericConfig: generic,
		ExtraConfig: apiserver.ExtraConfig{
			CRDRESTOptionsGetter: options.NewCRDRESTOptionsGetter(*chosen.Etcd, nil, generic.StorageObjectCountTracker),
			MasterCount:          1,
			AuthResolverWrapper: webhook.NewDefaultAuthenticationInfoResolverWrapper(
				nil, nil, generic.LoopbackClientConfig, noop.NewTracerProvider()),
		},
	}, nil
}
