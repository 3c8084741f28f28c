{{/* Ray Serve's configuration. Each deployment asks for a resource that the pods of its own group alone have. */}}
{{- define "lorry.applications" -}}
proxy_location: Disabled
applications:
  - name: gateway
    import_path: gateway.up.builders:gateway_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
    deployments:
      - name: gateway
        max_replicas_per_node: {{ .Values.gateway.processesPerPod }}
        ray_actor_options:
          num_cpus: 0
          resources:
            lorry_gateway: 1
  - name: controller
    import_path: gateway.up.builders:controller_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
    deployments:
      - name: controller
        ray_actor_options:
          num_cpus: 0
          resources:
            lorry_controller: 1
  {{- range .Values.pools }}
  - name: engines-{{ .name }}
    import_path: gateway.up.builders:engines_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
      pool: {{ .name }}
    deployments:
      - name: {{ .name }}
        max_replicas_per_node: 1
        ray_actor_options:
          num_cpus: 0
          {{- with .gpus }}
          num_gpus: {{ . }}
          {{- end }}
          resources:
            lorry_pool_{{ .name }}: 1
  {{- end }}
{{- end }}
