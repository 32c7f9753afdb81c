"""Networks of torchvision, timm and transformers, each on an input that is worked out."""

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

import nnmagic
from nnmagic.structure.describe import ValuesNeededError

pytestmark = pytest.mark.slow


def names(text):
    return text.split()


CATALOGUE = torchvision.models.list_models(exclude="quantized_*")
DETECTION = torchvision.models.list_models(module=torchvision.models.detection)
CLASSIFICATION = torchvision.models.list_models(module=torchvision.models, exclude="quantized_*")
SEGMENTATION = torchvision.models.list_models(module=torchvision.models.segmentation)

SMALLEST = names("""
    alexnet convnext_tiny deeplabv3_mobilenet_v3_large densenet121 efficientnet_b0 googlenet
    inception_v3 lraspp_mobilenet_v3_large maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_small
    mvit_v1_b r3d_18 raft_small regnet_x_400mf regnet_y_400mf resnet18 s3d shufflenet_v2_x0_5
    squeezenet1_1 swin3d_t swin_t swin_v2_t vit_b_32
    fasterrcnn_mobilenet_v3_large_320_fpn fcos_resnet50_fpn keypointrcnn_resnet50_fpn
    maskrcnn_resnet50_fpn retinanet_resnet50_fpn ssdlite320_mobilenet_v3_large
""")
"""One small network of each of torchvision's families."""

TIMM = names("""
    halonet_h1 test_byobnet cait_xxs24_224 convit_tiny test_convnext cpubone_nano cspnext_tiny
    darknet21 davit_tiny deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small
    efficientformer_l1 efficientformerv2_s0 test_efficientnet efficientvim_m1 efficientvit_b0
    efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t12 gcvit_xxtiny ghostnet_050
    hardcorenas_b hgnetv2_b0 hiera_tiny_224 iformer_t inception_next_atto inception_v3 lcnetv2_small
    levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 resmlp_12_224 lcnet_050
    mobilevit_xxs test_nfnet pit_ti_224 pvt_v2_b0 regnetx_002 resnest14d test_resnet resnetv2_18d
    rexnet_100 selecsls42 legacy_seresnext26_32x4d shvit_s1 skresnet50 starnet_s050 swiftformer_xs
    swin_tiny_patch4_window7_224 tiny_vit_5m_224 twins_svt_small visformer_tiny test_vit
    vit_tiny_r_s16_p8_224 test_vit_relpos vitamin_small_224 ese_vovnet19b_dw xcit_nano_12_p8_224
""")
"""One small network of each of 64 families."""

BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"vocab_size": 64, "intermediate_size": 48, **BLOCKS}
CAUSAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **TEXT}
GROUPED = {"num_key_value_heads": 1, **CAUSAL}
PICTURE = {"image_size": 32, "patch_size": 8, "intermediate_size": 48, **BLOCKS}
WINDOWS = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1]}
WINDOWS |= {"num_heads": [2, 2], "window_size": 4}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SPEECH = {"intermediate_size": 48, "conv_dim": (16, 16), "conv_stride": (5, 4), **BLOCKS}
SPEECH |= {"conv_kernel": (10, 8), "num_conv_pos_embeddings": 16}
SPEECH |= {"num_feat_extract_layers": 2, "num_conv_pos_embedding_groups": 2}
TRANSLATION = {"vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
TRANSLATION |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
TRANSLATION |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
RECOGNITION = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **TRANSLATION}
RECOGNITION |= {"decoder_start_token_id": 1, "max_target_positions": 32}
SHORT = {"max_position_embeddings": 32}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}

TRANSFORMERS = {
    "AlbertModel": {"embedding_size": 16, **TEXT},
    "ASTModel": {"max_length": 64, "num_mel_bins": 16, "intermediate_size": 48, **BLOCKS},
    "BeitModel": PICTURE,
    "BertForSequenceClassification": TEXT,
    "BlipForConditionalGeneration": {"text_config": TEXT, "vision_config": PICTURE},
    "BloomForCausalLM": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "ChineseCLIPModel": {"text_config": TEXT, "vision_config": PICTURE, "projection_dim": 16},
    "CLIPModel": {"text_config": {**TEXT, **SHORT, "eos_token_id": 63}, "vision_config": PICTURE},
    "CLIPTextModel": {**TEXT, **SHORT},
    "CLIPVisionModel": PICTURE,
    "ConvNextForImageClassification": STAGES,
    "CTRLModel": {"vocab_size": 64, "n_embd": 32, "dff": 48, "n_layer": 2, "n_head": 2},
    "DebertaV2Model": TEXT,
    "DeiTModel": PICTURE,
    "Dinov2Model": PICTURE,
    "DistilBertModel": {
        "vocab_size": 64,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 48,
    },
    "ElectraModel": {"embedding_size": 32, **TEXT},
    "FalconForCausalLM": {"vocab_size": 64, **BLOCKS},
    "FNetModel": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2},
    "FunnelModel": {
        "vocab_size": 64,
        "block_sizes": [1, 1],
        "d_model": 32,
        "n_head": 2,
        "d_head": 16,
        "d_inner": 48,
    },
    "GemmaForCausalLM": {"head_dim": 16, **GROUPED},
    "GPT2LMHeadModel": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "GPTJForCausalLM": {
        "vocab_size": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "rotary_dim": 8,
    },
    "GPTNeoXForCausalLM": CAUSAL,
    "HubertModel": SPEECH,
    "LayoutLMModel": TEXT,
    "LlamaForCausalLM": GROUPED,
    "Mamba2ForCausalLM": {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
    },
    "MambaForCausalLM": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2},
    "MistralForCausalLM": GROUPED,
    "MPNetModel": TEXT,
    "OPTForCausalLM": {"vocab_size": 64, "ffn_dim": 48, "word_embed_proj_dim": 32, **BLOCKS},
    "PatchTSTModel": {
        "num_input_channels": 2,
        "context_length": 32,
        "patch_length": 4,
        "patch_stride": 4,
        "d_model": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 16,
    },
    "PhiForCausalLM": CAUSAL,
    "PoolFormerModel": STAGES,
    "Qwen2ForCausalLM": GROUPED,
    "RegNetModel": {"embedding_size": 8, "groups_width": 4, **STAGES},
    "ResNetModel": {"embedding_size": 8, **STAGES},
    "RobertaModel": TEXT,
    "SegformerForSemanticSegmentation": {
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
        **STAGES,
    },
    "SiglipModel": {"text_config": {**TEXT, **SHORT}, "vision_config": PICTURE},
    "Speech2TextForConditionalGeneration": {"input_feat_per_channel": 8, **RECOGNITION},
    "SwinModel": WINDOWS,
    "Swinv2Model": WINDOWS,
    "T5ForConditionalGeneration": T5,
    "TimesformerModel": {"num_frames": 2, **PICTURE},
    "VideoMAEModel": {"num_frames": 4, **PICTURE},
    "ViTMAEModel": PICTURE,
    "ViTModel": PICTURE,
    "VisualBertModel": {"visual_embedding_dim": 32, **TEXT},
    "Wav2Vec2ForCTC": SPEECH,
    "WavLMModel": SPEECH,
    "WhisperForConditionalGeneration": {
        "num_mel_bins": 8,
        "max_source_positions": 20,
        **RECOGNITION,
    },
    "XLNetModel": {"vocab_size": 64, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48},
    "YolosForObjectDetection": {**PICTURE, "image_size": [32, 32], "num_detection_tokens": 4},
    "BartForConditionalGeneration": TRANSLATION,
    "BigBirdModel": TEXT,
    "ConvBertModel": TEXT,
    "MarianMTModel": {**TRANSLATION, "pad_token_id": 0, "decoder_start_token_id": 0},
    "PegasusModel": TRANSLATION,
    "RoFormerModel": {"embedding_size": 32, **TEXT},
}

READING_VALUES = {
    "LongformerModel": {"attention_window": 4, **TEXT},
    "ViltModel": {"image_size": 32, "patch_size": 8, **TEXT},
}
"""These branch on floating-point values, which a run for shapes does not have."""


def torchvision_network(name):
    keywords = {"weights": None}
    if name in DETECTION + SEGMENTATION:
        keywords["weights_backbone"] = None
    if name in DETECTION and "ssd" not in name:
        keywords |= {"min_size": 96, "max_size": 128}
    if name in ("googlenet", "inception_v3"):
        keywords["init_weights"] = False  # the other one takes half a minute
    return torchvision.models.get_model(name, **keywords)


def transformers_network(name):
    config = getattr(transformers, name).config_class
    return getattr(transformers, name)(config(**{**TRANSFORMERS, **READING_VALUES}[name]))


def on_meta(build):
    """Build a network without its values, if its constructor needs none."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError):
        return build()


def state_of(net):
    modules = dict(net.named_modules())
    return (
        {name: module.training for name, module in modules.items()},
        {name: {key: id(value) for key, value in vars(m).items()} for name, m in modules.items()},
        {name: [len(m._forward_hooks), len(m._forward_pre_hooks)] for name, m in modules.items()},
        nn.Module.__call__,
    )


def assert_traced_as_it_runs(net):
    given = []
    net.register_forward_pre_hook(
        lambda module, *call: given.append(tree_map_only(torch.Tensor, torch.clone, call)),
        with_kwargs=True,
    )
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state, random = state_of(net), torch.get_rng_state()

    trace = nnmagic.trace(net)

    assert state_of(net) == state
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensors[name], now) for name, now in net.state_dict().items())
    args, kwargs = given[-1]
    torch.manual_seed(0)
    with torch.no_grad():
        plain = net.eval()(*args, **kwargs)
    pairs = list(zip(tree_leaves(trace.output), tree_leaves(plain), strict=True))
    assert any(isinstance(mine, torch.Tensor) for mine, _ in pairs)
    for mine, theirs in pairs:
        if isinstance(mine, torch.Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


FAMILIES = set(CATALOGUE) - set(DETECTION) - set(CLASSIFICATION) | set(SMALLEST) - set(DETECTION)
"""All networks but those of a family of which a smaller one stands for the others."""


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_torchvision_network_has_a_structure_from_nothing(name):
    net = on_meta(lambda: torchvision_network(name))

    summary = nnmagic.summary(net)

    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert not summary.failure


@pytest.mark.parametrize("name", SMALLEST)
def test_a_torchvision_network_is_traced_as_it_runs(name):
    torch.manual_seed(0)
    assert_traced_as_it_runs(torchvision_network(name))


@pytest.mark.parametrize("name", sorted(set(SMALLEST) & set(DETECTION)))
def test_a_detector_reads_values_and_needs_no_option(name):
    net = torchvision_network(name).eval()

    for args in ((), ([torch.rand(3, 96, 128)],)):
        summary = nnmagic.summary(net, *args)

        assert "run for real, and everything put back" in str(summary)
        assert summary.total_params == sum(p.numel() for p in net.parameters())
    with pytest.raises(ValuesNeededError, match="the network is on meta"):
        nnmagic.summary(on_meta(lambda: torchvision_network(name)))


QUANTIZED = names("""
    quantized_googlenet quantized_inception_v3 quantized_mobilenet_v2 quantized_mobilenet_v3_large
    quantized_resnet18 quantized_shufflenet_v2_x0_5
""")


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantised_network_needs_no_option(name):
    net = torchvision.models.get_model(name, weights=None, quantize=True)

    for args in ((), (torch.rand(1, 3, 299, 299),)):
        summary = nnmagic.summary(net, *args)

        assert summary.rows[0].output_shape == (1, 1000)
        assert not summary.failure


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_network_has_a_structure_and_is_traced_from_nothing(name, none_without_values):
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False)

    summary = nnmagic.summary(net)

    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert_traced_as_it_runs(net)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_has_a_structure_and_is_traced_from_nothing(name, none_without_values):
    torch.manual_seed(0)
    net = transformers_network(name)

    summary = nnmagic.summary(net)

    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert_traced_as_it_runs(net)


@pytest.mark.parametrize("name", READING_VALUES)
def test_a_transformer_that_reads_values_needs_no_option(name):
    torch.manual_seed(0)
    net = transformers_network(name)

    summary = nnmagic.summary(net)

    assert "run for real, and everything put back" in str(summary)
    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert_traced_as_it_runs(net)
