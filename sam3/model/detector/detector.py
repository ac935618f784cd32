"""The detector: an image, a phrase, perhaps example boxes in; every matching object out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sam3.config import DetectorConfig, ModelConfig
from sam3.errors import DataError, UserError
from sam3.io.model_card import ModelCard
from sam3.model.backbone import Backbone
from sam3.model.detector.decoder import Decoder, DecoderLayerOutput
from sam3.model.detector.fusion_encoder import FusionEncoder
from sam3.model.detector.geometry_encoder import GeometryEncoder
from sam3.model.detector.scoring import DotProductScoring, joint_logits
from sam3.model.detector.segmentation_head import SegmentationHead
from sam3.model.frozen import keep_frozen_parts_in_eval_mode, learns
from sam3.model.text.phrase_cache import PhraseCache
from sam3.model.text.tokenizer import Tokenizer, resolve_bpe_path
from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import Batch, DetectorOutput, GeometricPrompt, ImageFeatures, QueryPredictions, TextFeatures

_T = TypeVar("_T")


class Sam3Image(nn.Module):
    """SAM 3 on still images. Attribute names are the keys of the released weights.

    Images and phrases are encoded once (:meth:`encode_image`, :meth:`encode_text`); :meth:`ground` pairs
    them. One image with ten prompts is one image encoding and one call of :meth:`ground`.
    """

    def __init__(self, config: ModelConfig, bpe_path: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.bpe_path = resolve_bpe_path(bpe_path)
        self.card: ModelCard | None = None  # of the loaded weights
        self._tokenizer: Tokenizer | None = None
        self._known_phrases = PhraseCache()
        self.backbone = Backbone(config)
        self.geometry_encoder = GeometryEncoder(config.detector)
        self.transformer = Transformer(config.detector)
        self.dot_prod_scoring = DotProductScoring(config.detector)
        self.segmentation_head = SegmentationHead(config.detector) if config.enable_segmentation else None
        self.inst_interactive_predictor: nn.Module | None = None  # set by the builder, which knows both worlds

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.dot_prod_scoring.hs_proj.bias.device

    @property
    def tokenizer(self) -> Tokenizer:
        """The byte-pair tokenizer, read from its file on first use."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self.bpe_path, self.config.text.context_length)
        return self._tokenizer

    def predict_inst(self, inference_state: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """Clicks, a box or a rough mask of one object; see
        :meth:`sam3.model.interactive_predictor.InteractivePredictor.predict_inst`."""
        return self._clicks().predict_inst(inference_state, *arguments, **options)

    def predict_inst_batch(self, inference_state: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """The same on every image of a batch."""
        return self._clicks().predict_inst_batch(inference_state, *arguments, **options)

    def _clicks(self) -> nn.Module:
        if self.inst_interactive_predictor is None:
            raise UserError(
                "this model was built without clicks: build it with enable_inst_interactivity=True, or use "
                "Sam3Processor with a phrase or example boxes, which finds all objects of a kind"
            )
        return self.inst_interactive_predictor

    def rotary_tables(self) -> dict[str, Tensor]:
        """Complex tables by released name: computed here, but read from the weight file by the reference."""
        tables = self.backbone.vision_backbone.trunk.rotary_tables()
        return {f"backbone.vision_backbone.trunk.{name}": table for name, table in tables.items()}

    def train(self, mode: bool = True) -> "Sam3Image":
        """As in the base class; parts of which nothing learns stay in evaluation mode."""
        super().train(mode)
        if mode:
            keep_frozen_parts_in_eval_mode(self)
        return self

    def forward(self, batch: Batch, work: Callable[[ImageFeatures], _T] | None = None) -> DetectorOutput | _T:
        """Detect in a collated batch; in training mode with one-to-many queries and every decoder layer.

        Args:
            work: called with the image features instead; its result is returned. So the prompts of a batch can be
                worked off in parts (:meth:`ground_batch`) within one forward pass, where engines that shard the
                weights have them at hand.
        """
        features = self.encode_image(batch.images)
        return self.ground_batch(features, batch) if work is None else work(features)

    def ground_batch(self, image: ImageFeatures, batch: Batch) -> DetectorOutput:
        """Find what the prompts of ``batch`` ask for; its images are encoded already."""
        return self.ground(
            image,
            self.encode_text(batch.phrases),
            image_index=batch.image_index,
            phrase_index=batch.phrase_index,
            prompt=batch.prompt,
        )

    def encode_image(self, images: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised to [-1, 1], sides multiples of the patch -> features. Errors: :class:`DataError`."""
        return self.backbone.vision_backbone(images)

    def encode_text(self, phrases: Sequence[str]) -> TextFeatures:
        """T phrases -> features; longer ones are cut to the context length. A frozen encoder reads a phrase once."""
        encoder = self.backbone.language_backbone
        if not learns(encoder):
            return self._known_phrases.encode(encoder, self.tokenizer, phrases)
        return self.encode_tokens(self.tokenizer(list(phrases), self.config.text.context_length))

    def encode_tokens(self, token_ids: Tensor) -> TextFeatures:
        """(T, S) long, right-padded with 0 -> features."""
        return self.backbone.language_backbone(token_ids.to(self.device))

    def ground(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        *,
        image_index: Tensor,
        phrase_index: Tensor,
        prompt: GeometricPrompt | None = None,
    ) -> DetectorOutput:
        """Find what P prompts ask for.

        Args:
            image: features of B images.
            text: features of T phrases.
            image_index: (P,) long, image of each prompt.
            phrase_index: (P,) long, phrase of each prompt.
            prompt: example boxes and points, P rows; left out, none.
        """
        if prompt is None:
            prompt = GeometricPrompt.empty(len(image_index), device=image_index.device)
        _require_equal_lengths(image_index, phrase_index, prompt)
        level = image.pyramid[-1]
        position = image.positions[-1].flatten(2).transpose(1, 2)

        geometry, geometry_mask = self.geometry_encoder(prompt, level, position, image_index)
        tokens = torch.cat([text.features[phrase_index], geometry], 1)
        mask = torch.cat([text.mask[phrase_index], geometry_mask], 1)

        memory = self.transformer.encoder(level.flatten(2).transpose(1, 2), position, image_index, tokens, mask)
        layers = self.transformer.decoder(
            memory, position, level.shape[-2:], tokens, mask, every_layer=self.training, doubled=self.training
        )
        output = self._predict(layers, tokens, mask)
        output.memory = memory
        if self.segmentation_head is not None:
            masks, output.semantic_logits = self.segmentation_head(
                image.pyramid, image_index, memory, tokens, mask, layers[-1].queries
            )
            self._add_masks(output, masks)
        return output

    def _predict(self, layers: list[DecoderLayerOutput], tokens: Tensor, mask: Tensor) -> DetectorOutput:
        """Scores and boxes of every layer that was read, split into the two halves of the queries."""
        prompt_embedding = self.dot_prod_scoring.embed_prompt(tokens, mask)
        one, many = [], []
        for layer in layers:
            logits = self.dot_prod_scoring(layer.queries, prompt_embedding)
            if self.config.detector.joint_scores:
                logits = joint_logits(logits, layer.presence_logits)
            one.append(self._half(logits, layer.boxes, 0, layer.presence_logits))
            many.append(self._half(logits, layer.boxes, 1, None))
        return DetectorOutput(
            one_to_one=one[-1],
            one_to_many=many[-1] if self.training else None,
            aux_one_to_one=one[:-1],
            aux_one_to_many=many[:-1],
            queries=layers[-1].queries[:, : self.config.detector.num_queries],
            presence_features=layers[-1].presence_token,
        )

    def _half(self, logits: Tensor, boxes: Tensor, half: int, presence_logits: Tensor | None) -> QueryPredictions:
        queries = self._half_slice(half)
        return QueryPredictions(
            logits=logits[:, queries],
            boxes=boxes[:, queries],
            boxes_xyxy=box_cxcywh_to_xyxy(boxes[:, queries]),
            presence_logits=presence_logits,
        )

    def _add_masks(self, output: DetectorOutput, masks: Tensor) -> None:
        output.one_to_one.masks = masks[:, self._half_slice(0)]
        if output.one_to_many is not None:
            output.one_to_many.masks = masks[:, self._half_slice(1)]

    def _half_slice(self, half: int) -> slice:
        count = self.config.detector.num_queries
        return slice(half * count, (half + 1) * count)


class Transformer(nn.Module):
    """Fusion encoder and decoder, under their released prefix."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.encoder = FusionEncoder(config)
        self.decoder = Decoder(config)


def _require_equal_lengths(image_index: Tensor, phrase_index: Tensor, prompt: GeometricPrompt) -> None:
    if not len(image_index) == len(phrase_index) == len(prompt):
        raise DataError(
            f"image_index names {len(image_index)} prompts, phrase_index {len(phrase_index)}, the geometric prompt "
            f"{len(prompt)}; all three must have one entry per prompt"
        )
